-- Returns the names of all archives, the oldest first.
return call('ZRANGE', ARCHIVES, 0, -1)
