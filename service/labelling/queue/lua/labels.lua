-- ARGV: cursor or '', n, and what an archive must sort behind to hold labels behind the cursor.
-- Returns the name of that archive, or cursor, annotator, label and sample JSON of up to n labels of the
-- stream. Archives hold the beginning of the stream, so a label is in one or the other.
local archive = call('ZRANGEBYLEX', ARCHIVES, '(' .. ARGV[4], '+', 'LIMIT', 0, 1)[1]
if archive then
  return archive
end
return records(ARGV[2] == '' and '-' or '(' .. ARGV[2], ARGV[3])
