-- KEYS: totals, buckets, report, shares. ARGV: in milliseconds, length of the window and of a bucket.
-- Returns, of one moment: time in ms, the time at which the totals began, the totals, the state, the recent images of
-- each replica (a list), then each bucket that reaches into the window.
local clock = call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local totals = call('HMGET', KEYS[1], 'born', 'sums')
local reply = { decimal(now), totals[1] or '', totals[2] or '', call('HGET', KEYS[3], 'state') or '' }
reply[5] = call('HVALS', KEYS[4])
local buckets = call('HGETALL', KEYS[2])
for i = 1, #buckets, 2 do
  if tonumber(buckets[i]) + tonumber(ARGV[2]) > now - tonumber(ARGV[1]) then
    reply[#reply + 1] = buckets[i + 1]
  end
end
return reply
