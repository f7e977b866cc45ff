-- ARGV: n. Returns about n ids, each followed by a 1, of erased samples whose labels may still be in archives.
return call('HSCAN', ERASURES, 0, 'COUNT', ARGV[2])[2]
