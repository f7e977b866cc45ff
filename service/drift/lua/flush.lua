-- KEYS: totals, buckets, receipt of the replica, leader, report, shares.
-- ARGV: replica, sequence, sums (packed doubles; '' if there is nothing new), then in milliseconds: length of a bucket,
-- retention of buckets, length of a lease, retention of all keys after the last flush; then the number of images in
-- the sums.
-- Adds the sums if their sequence number is new. The replica becomes the leader unless another one leads.
-- Returns: time in ms, token of the leader ('' for the other replicas), the time at which the totals began, report.
local TOTALS, BUCKETS, RECEIPT, LEADER, REPORT, SHARES = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local replica, sequence, sums = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local bucket_ms, keep_ms, lease_ms, retention_ms = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7]
local clock = call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)

local function added(known, more)
  if not known then
    return more
  end
  local parts = {}
  for at = 1, #more, 8 do
    parts[#parts + 1] = struct.pack('<d', struct.unpack('<d', known, at) + struct.unpack('<d', more, at))
  end
  return table.concat(parts)
end

local function forget_old_buckets()
  for _, start in ipairs(call('HKEYS', BUCKETS)) do
    if tonumber(start) < now - keep_ms then
      call('HDEL', BUCKETS, start)
    end
  end
end

-- Recent images of each replica. Images of a bucket count half as much as those of the next bucket.
local function halve_shares()
  local shares = call('HGETALL', SHARES)
  for i = 1, #shares, 2 do
    if tonumber(shares[i + 1]) < 2 then
      call('HDEL', SHARES, shares[i])
    else
      call('HSET', SHARES, shares[i], shares[i + 1] / 2)
    end
  end
end

local function add()
  call('HSETNX', TOTALS, 'born', now)
  call('HSET', TOTALS, 'sums', added(call('HGET', TOTALS, 'sums'), sums))
  local bucket = decimal(now - now % bucket_ms)
  local known = call('HGET', BUCKETS, bucket)
  call('HSET', BUCKETS, bucket, added(known, sums))
  call('SET', RECEIPT, sequence)
  if not known then
    forget_old_buckets()
    halve_shares()
  end
  call('HINCRBYFLOAT', SHARES, replica, ARGV[8])
end

-- A token is never given to two replicas, even by a server that lost its last writes: it contains the replica's name.
local function lead()
  local held = call('HMGET', LEADER, 'replica', 'until', 'token', 'count')
  if held[1] == replica then
    call('HSET', LEADER, 'until', now + lease_ms)
    return held[3]
  end
  if held[1] and tonumber(held[2]) > now then
    return ''
  end
  local count = tonumber(held[4] or 0) + 1
  local token = decimal(count) .. ' ' .. replica
  call('HSET', LEADER, 'replica', replica, 'until', now + lease_ms, 'token', token, 'count', count)
  return token
end

if sums ~= '' and sequence > tonumber(call('GET', RECEIPT) or -1) then
  add()
end
local token = lead()
for _, key in ipairs(KEYS) do
  call('PEXPIRE', key, retention_ms)
end
return { decimal(now), token, call('HGET', TOTALS, 'born') or '', call('HGET', REPORT, 'report') or '' }
