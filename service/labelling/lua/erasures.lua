-- ARGV: n. Returns up to about n ids and cursors of labels that are to be taken out of their archives.
return redis.call('HSCAN', ERASURES, 0, 'COUNT', ARGV[2])[2]
