-- ARGV: archive, and the archive that takes its place or ''. Returns 0 and changes nothing if the first one is not
-- valid any more.
past_memory_limit()
if call('ZREM', ARCHIVES, ARGV[2]) == 0 then
  return 0
end
discard(ARGV[2], 0)
if ARGV[3] ~= '' then
  call('ZADD', ARCHIVES, 0, ARGV[3])
  call('ZREM', GARBAGE, ARGV[3])
end
return 1
