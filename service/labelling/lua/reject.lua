-- ARGV: id, digest of annotator, token and reason, then annotator and reason as JSON.
-- Returns accepted, repeated (the same request again), or the state that forbids it (unknown, labelled,
-- rejected, evicted). Needs no lease, as a label needs none.
past_memory_limit()
local id, digest = ARGV[2], ARGV[3]
local item = read(id)
if not item or item.state == 'arriving' or item.state == 'erased' then
  return 'unknown'
end
if item.state == 'rejected' then
  return string.find(redis.call('HGET', RECEIPTS, id), digest, 1, true) == 1 and 'repeated' or 'rejected'
end
if item.state == 'leased' then
  release(id)
elseif item.state == 'pending' then
  leave(id, item)
elseif item.state == 'dead' then
  redis.call('ZREM', DEAD, id)
else
  return item.state
end
redis.call('HSET', RECEIPTS, id, digest .. ' ' .. ARGV[4])
finish(id, item, 'rejected')
return 'accepted'
