-- ARGV: id, annotator, token, digest of annotator, token and reason, then annotator and reason as JSON.
-- Returns accepted, repeated (the same request again), or the state that forbids it (unknown, labelled, rejected,
-- evicted, erased, and "leased" under another annotator or token). A rejection needs no lease. But while there is a
-- lease, only its holder may reject: unlike a label, a rejection would throw away the work of somebody else.
past_memory_limit()
local id, digest = ARGV[2], ARGV[5]
local item = read(id)
if not item or item.state == 'arriving' then
  return 'unknown'
end
if item.state == 'rejected' then
  return string.find(call('HGET', RECEIPTS, id), digest, 1, true) == 1 and 'repeated' or 'rejected'
end
if item.state == 'leased' then
  if lease_of(id).holder ~= cjson.encode({ ARGV[3], ARGV[4] }) then
    return 'leased'
  end
  release(id)
elseif item.state == 'pending' then
  leave(id, item)
elseif item.state == 'dead' then
  call('ZREM', DEAD, id)
else
  return item.state
end
call('HSET', RECEIPTS, id, digest .. ' ' .. ARGV[6])
finish(id, item, 'rejected')
return 'accepted'
