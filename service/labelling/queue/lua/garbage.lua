-- ARGV: n, and the latest mark or +inf. Returns name and mark of up to n blobs that may be deleted now.
local latest = math.min(now(), tonumber(ARGV[3]) or math.huge)
return call('ZRANGEBYSCORE', GARBAGE, '-inf', latest, 'WITHSCORES', 'LIMIT', 0, ARGV[2])
