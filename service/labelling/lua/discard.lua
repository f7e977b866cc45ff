-- ARGV: a name in the blob store that is to be deleted, unless it comes to count, when an arrival is over.
discard(ARGV[2], ARRIVAL)
return 'OK'
