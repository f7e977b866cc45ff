-- KEYS: replicas (a hash: name of a replica -> time in ms and the version that it serves, with a blank between them).
-- ARGV: name of the replica, version that it serves ('' if none), retention of an entry in ms. Or the name alone: the
-- replica leaves.
-- Returns: time in ms, 1 if the replica was known already (else 0), then name, time of its last word in ms, and version of each replica.
local REPLICAS, name, keep_ms = KEYS[1], ARGV[1], tonumber(ARGV[3])
local clock = call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)

if not keep_ms then
  call('HDEL', REPLICAS, name)
  return { decimal(now) }
end
local is_known = 1 - call('HSET', REPLICAS, name, decimal(now) .. ' ' .. ARGV[2])
call('PEXPIRE', REPLICAS, keep_ms)
local reply = { decimal(now), is_known }
local entries = call('HGETALL', REPLICAS)
for i = 1, #entries, 2 do
  local said, version = string.match(entries[i + 1], '^(%d+) (.*)$')
  if not said or tonumber(said) < now - keep_ms then
    call('HDEL', REPLICAS, entries[i])
  else
    reply[#reply + 1] = entries[i]
    reply[#reply + 1] = said
    reply[#reply + 1] = version
  end
end
return reply
