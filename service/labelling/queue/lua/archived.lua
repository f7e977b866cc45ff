-- ARGV: archive, first cursor, last cursor, number of labels. Makes the archive count and takes its labels
-- off the stream. Returns 0 and changes nothing when they are not the same any more: one was erased
-- meanwhile, or another replica was faster.
past_memory_limit()
if #redis.call('XRANGE', LABELS, ARGV[3], ARGV[4]) ~= tonumber(ARGV[5]) then
  return 0
end
redis.call('ZADD', ARCHIVES, 0, ARGV[2])
redis.call('ZREM', GARBAGE, ARGV[2])
local time, sequence = string.match(ARGV[4], '^(%d+)-(%d+)$')
redis.call('XTRIM', LABELS, 'MINID', time .. '-' .. string.format('%.0f', sequence + 1))
return 1
