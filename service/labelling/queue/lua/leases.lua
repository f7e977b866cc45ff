-- Leases and the hourly budget. A leased sample is charged to the hour of its lease. An hour that is over gets no
-- refund.
local HOUR = 3600 * 1000000
local MEMORY = 300 * 1000000 -- how long a token is remembered after it held its last sample, so that it can retry

local function hour()
  return decimal(math.floor(now() / HOUR))
end

local function charged()
  local found = call('HMGET', COUNTS, 'hour', 'charged')
  return found[1] == hour() and tonumber(found[2]) or 0
end

local function charge(n)
  call('HSET', COUNTS, 'charged', math.max(charged() + n, 0), 'hour', hour())
end

local function budget_left()
  local limit = POLICY.labels_per_hour
  return limit == cjson.null and -1 or math.max(limit - charged(), 0)
end

local function seconds(time)
  return string.format('%.6f', time / 1000000)
end

local function lease_of(id)
  local text = call('HGET', LEASES, id)
  if not text then
    return nil
  end
  local expiry, charged_hour, place, holder = string.match(text, '^(%S+) (%S+) (%d+) (.*)$')
  return { expiry = tonumber(expiry), hour = charged_hour, place = place, holder = holder }
end

local function set_lease(id, lease)
  call('ZADD', LEASED, lease.expiry, id)
  call('HSET', LEASES, id, table.concat({ decimal(lease.expiry), lease.hour, lease.place, lease.holder }, ' '))
end

-- Members of HOLDINGS: the holder, which is JSON and so contains no zero byte; a zero byte; four digits; the id.
local function in_holdings(id, lease)
  return lease.holder .. '\0' .. lease.place .. id
end

local function holdings(holder, limit)
  return call('ZRANGEBYLEX', HOLDINGS, '[' .. holder .. '\0', '(' .. holder .. '\1', 'LIMIT', 0, limit)
end

-- Ends the lease of a sample. The caller decides its next state.
local function release(id)
  local lease = lease_of(id)
  call('ZREM', LEASED, id)
  call('HDEL', LEASES, id)
  call('ZREM', HOLDINGS, in_holdings(id, lease))
  if #holdings(lease.holder, 1) == 0 then
    call('ZADD', HOLDERS, 'XX', 'LT', now() + MEMORY, lease.holder)
  end
end

local function refund(lease)
  if lease.hour == hour() then
    charge(-1)
  end
end

local function sweep(limit)
  local expired = call('ZRANGEBYSCORE', LEASED, '-inf', now(), 'LIMIT', 0, limit)
  for _, id in ipairs(expired) do
    local item = read(id)
    refund(lease_of(id))
    release(id)
    count('expired', 1)
    item.expiries = item.expiries + 1
    if item.expiries >= POLICY.max_expiries then
      bury(id, item)
    else
      enter(id, item)
      make_room(item)
    end
  end
  for _, holder in ipairs(call('ZRANGEBYSCORE', HOLDERS, '-inf', now(), 'LIMIT', 0, limit)) do
    call('ZREM', HOLDERS, holder)
  end
  return #expired
end

-- The ids that a holder still holds, in the order of its lease; nil if the holder is not remembered.
local function held_by(holder)
  if not call('ZSCORE', HOLDERS, holder) then
    return nil
  end
  local held = {}
  for _, member in ipairs(holdings(holder, -1)) do
    held[#held + 1] = string.sub(member, #holder + 6)
  end
  return held
end

-- JSON, and expiry in seconds, of each sample.
local function leased_reply(ids)
  local reply = {}
  for _, id in ipairs(ids) do
    reply[#reply + 1] = call('HGET', SAMPLES, id)
    reply[#reply + 1] = seconds(lease_of(id).expiry)
  end
  return reply
end

-- A short name for an annotator in the list of those who skipped a sample.
local function skipper(annotator)
  return string.sub(redis.sha1hex(annotator), 1, 16)
end
