-- Returns the names of all archives, the oldest first.
return redis.call('ZRANGE', ARCHIVES, 0, -1)
