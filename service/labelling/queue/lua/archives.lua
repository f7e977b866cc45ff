-- Returns the names of all archives, oldest first.
return call('ZRANGE', ARCHIVES, 0, -1)
