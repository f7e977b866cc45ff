-- ARGV: annotator, token, microseconds. Returns sample JSON and new expiry, for each that the token holds.
-- What is held for longer already stays so: a lease is never cut short.
-- A lease that ran out and was not swept yet is extended as well: nobody else has the sample.
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
