-- ARGV: start, n. Returns JSON of up to n pending samples of the audit lane, the newest first, without the first `start`.
local start, n = tonumber(ARGV[2]), tonumber(ARGV[3])
local found = {}
for _, id in ipairs(call('ZREVRANGE', LANES.audit, start, start + n - 1)) do
  found[#found + 1] = call('HGET', SAMPLES, id)
end
return found
