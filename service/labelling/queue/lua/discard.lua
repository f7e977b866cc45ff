-- ARGV: name of an archive that is about to be written. It will be deleted after the time of an arrival, unless it
-- becomes valid before.
past_memory_limit() -- the archive will free more: it takes a thousand labels off the stream
discard(ARGV[2], ARRIVAL)
return 'OK'
