-- ARGV: n, annotator, token, seconds. Returns sample JSON and expiry (unix seconds), for each sample.
-- The first write is a removal, so that leasing goes on when memory is out.
local SWEEP = 1000 -- most leases returned by one call
local now_s = server_time_s()
local holder = cjson.encode({ ARGV[2], ARGV[3] })

for _, id in ipairs(redis.call('ZRANGEBYSCORE', LEASED, '-inf', now_s, 'LIMIT', 0, SWEEP)) do
  local lease = cjson.decode(redis.call('HGET', LEASES, id))
  redis.call('ZREM', LEASED, id)
  redis.call('HDEL', LEASES, id)
  redis.call('ZADD', PENDING, lease.value, id)
  redis.call('HSET', STATES, id, 'pending')
  redis.call('HINCRBY', COUNTS, 'expired', 1)
end
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', HOLDERS, '-inf', now_s, 'LIMIT', 0, SWEEP)) do
  redis.call('ZREM', HOLDERS, gone)
  redis.call('HDEL', HELD, gone)
end

local reply = {}
local held = redis.call('HGET', HELD, holder)
if held then
  for id in string.gmatch(held, '%S+') do
    local text = redis.call('HGET', LEASES, id)
    local lease = text and cjson.decode(text)
    if lease and lease.holder == holder then
      reply[#reply + 1] = redis.call('HGET', SAMPLES, id)
      reply[#reply + 1] = lease.expires_at
    end
  end
  return reply
end

local expires_s = now_s + tonumber(ARGV[4])
local expires_at = string.format('%.6f', expires_s)
local ids = {}
local best = redis.call('ZREVRANGE', PENDING, 0, tonumber(ARGV[1]) - 1, 'WITHSCORES')
for i = 1, #best, 2 do
  local id, value = best[i], best[i + 1]
  redis.call('ZREM', PENDING, id)
  redis.call('ZADD', LEASED, expires_s, id)
  redis.call('HSET', LEASES, id, cjson.encode({ holder = holder, value = value, expires_at = expires_at }))
  redis.call('HSET', STATES, id, 'leased')
  ids[#ids + 1] = id
  reply[#reply + 1] = redis.call('HGET', SAMPLES, id)
  reply[#reply + 1] = expires_at
end
if #ids > 0 then
  redis.call('ZADD', HOLDERS, expires_s, holder)
  redis.call('HSET', HELD, holder, table.concat(ids, ' '))
end
return reply
