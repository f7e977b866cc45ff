-- ARGV: n. Returns up to about n ids, each with a 1, of erased samples whose labels may be in archives still.
return call('HSCAN', ERASURES, 0, 'COUNT', ARGV[2])[2]
