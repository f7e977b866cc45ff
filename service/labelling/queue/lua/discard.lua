-- ARGV: a name in the blob store that is to be deleted, unless it comes to count, when an arrival is over.
past_memory_limit() -- an archive takes a thousand labels off the stream
discard(ARGV[2], ARRIVAL)
return 'OK'
