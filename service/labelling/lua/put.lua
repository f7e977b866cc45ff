-- ARGV: id, value, sample JSON, for each sample. An id that is known, in whatever state, is left alone.
-- The ZADD comes first: it alone can be refused (memory, a value that is no number), and then nothing
-- of that sample is there.
for i = 1, #ARGV, 3 do
  local id = ARGV[i]
  if redis.call('HEXISTS', STATES, id) == 0 then
    redis.call('ZADD', PENDING, ARGV[i + 1], id)
    redis.call('HSET', SAMPLES, id, ARGV[i + 2])
    redis.call('HSET', STATES, id, 'pending')
    redis.call('HINCRBY', COUNTS, 'accepted', 1)
  end
end
return 'OK'
