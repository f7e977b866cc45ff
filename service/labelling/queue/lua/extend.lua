-- ARGV: annotator, token, microseconds. Returns JSON and new expiry of each sample that the token holds.
-- A lease that already lasts longer keeps its expiry: an extension never shortens it.
-- A lease that ran out but was not swept yet is extended as well: nobody else has the sample.
past_memory_limit()
local holder = cjson.encode({ ARGV[2], ARGV[3] })
local ids = held_by(holder) or {}
local expiry = now() + tonumber(ARGV[4])
for _, id in ipairs(ids) do
  local lease = lease_of(id)
  expiry = math.max(expiry, lease.expiry)
  lease.expiry = expiry
  set_lease(id, lease)
end
if #ids > 0 then
  call('ZADD', HOLDERS, expiry, holder)
end
return leased_reply(ids)
