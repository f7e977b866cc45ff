-- ARGV: id of an erased sample that is in no archive any more.
return call('HDEL', ERASURES, ARGV[2])
