-- ARGV: n. Returns name and mark of up to n blobs to be deleted.
return redis.call('ZRANGEBYSCORE', GARBAGE, '-inf', now(), 'WITHSCORES', 'LIMIT', 0, ARGV[2])
