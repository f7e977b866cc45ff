-- ARGV: cursor or '', n, and a name after which all archives sort that have labels after the cursor.
-- Returns the name of the first such archive. If there is none, returns cursor, annotator, label and sample JSON of up
-- to n labels of the stream. Archives hold the beginning of the stream, so a label is either in an archive or in the
-- stream.
local archive = call('ZRANGEBYLEX', ARCHIVES, '(' .. ARGV[4], '+', 'LIMIT', 0, 1)[1]
if archive then
  return archive
end
return records(ARGV[2] == '' and '-' or '(' .. ARGV[2], ARGV[3])
