-- ARGV: archive, first cursor, last cursor, number of labels. Makes the archive valid and takes its labels off the
-- stream. Returns 0 and changes nothing if the stream has other labels there by now: one was erased meanwhile, or
-- another replica was faster.
past_memory_limit()
if #call('XRANGE', LABELS, ARGV[3], ARGV[4]) ~= tonumber(ARGV[5]) then
  return 0
end
call('ZADD', ARCHIVES, 0, ARGV[2])
call('ZREM', GARBAGE, ARGV[2])
local time, sequence = string.match(ARGV[4], '^(%d+)-(%d+)$')
call('XTRIM', LABELS, 'MINID', time .. '-' .. decimal(sequence + 1))
return 1
