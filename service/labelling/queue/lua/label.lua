-- ARGV: id, annotator, token, label JSON, digest of annotator, token and label.
-- Returns accepted, repeated (the same request again), or the state that forbids it (unknown, labelled, rejected,
-- evicted, erased). A label needs no lease: a late label is taken if the sample has none yet. It is charged to the
-- budget if no lease was charged for it.
past_memory_limit()
local id, digest = ARGV[2], ARGV[6]
local item = read(id)
if not item or item.state == 'arriving' then
  return 'unknown'
end
if item.state == 'labelled' then
  return string.find(call('HGET', RECEIPTS, id), digest, 1, true) == 1 and 'repeated' or 'labelled'
end
if item.state == 'leased' then
  release(id)
elseif item.state == 'pending' then
  leave(id, item)
  charge(1)
elseif item.state == 'dead' then
  call('ZREM', DEAD, id)
  charge(1)
else
  return item.state
end
local cursor = call('XADD', LABELS, '*', 'sample_id', id, 'annotator', ARGV[3], 'token', ARGV[4], 'label', ARGV[5])
call('HSET', RECEIPTS, id, digest .. ' ' .. cursor)
finish(id, item, 'labelled')
return 'accepted'
