-- ARGV: id of an erased sample whose labels are in no archive any more.
return call('HDEL', ERASURES, ARGV[2])
