-- KEYS: totals, buckets, report, shares. ARGV: in milliseconds, length of the window and of a bucket.
-- Returns, of one moment: time in ms, the time at which the totals began, the totals, the state, the recent images of
-- each replica (a list), then each bucket that reaches into the window.
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local totals = redis.call('HMGET', KEYS[1], 'born', 'sums')
local reply = { string.format('%.0f', now), totals[1] or '', totals[2] or '', redis.call('HGET', KEYS[3], 'state') or '' }
reply[5] = redis.call('HVALS', KEYS[4])
local buckets = redis.call('HGETALL', KEYS[2])
for i = 1, #buckets, 2 do
  if tonumber(buckets[i]) + tonumber(ARGV[2]) > now - tonumber(ARGV[1]) then
    reply[#reply + 1] = buckets[i + 1]
  end
end
return reply
