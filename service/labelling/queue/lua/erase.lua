-- ARGV: id. Returns whether the sample was erased before, whether archives must be searched for its labels, and the
-- name of its image; the name is missing if the sample is unknown.
-- Archives can hold labels of any sample, even from an earlier life that the queue has forgotten. So the id is noted in
-- ERASURES until the archives were searched.
-- The image of an arriving sample may still be written. The put that follows discards it; if no put follows, it is
-- deleted after the time of an arrival. The sample was accepted in a reply, so it counts as accepted.
past_memory_limit()
local id = ARGV[2]
local item = read(id)
local state = item and item.state
if state ~= 'erased' and call('ZCARD', ARCHIVES) > 0 then
  call('HSET', ERASURES, id, 1)
end
local archives = call('HEXISTS', ERASURES, id)
if not item then
  return { 0, archives }
end
if state ~= 'erased' then
  if state == 'arriving' then
    call('ZREM', ARRIVING, id)
    count('accepted', 1)
  elseif state == 'pending' then
    leave(id, item)
  elseif state == 'leased' then
    refund(lease_of(id))
    release(id)
  elseif state == 'dead' then
    call('ZREM', DEAD, id)
  else
    count_ended(item, state, -1)
  end
  if state == 'labelled' then
    local cursor = string.match(call('HGET', RECEIPTS, id), '^%S+ (%S+)$')
    call('XDEL', LABELS, cursor)
  end
  finish_without_image(id, item, 'erased')
  if state == 'arriving' then
    discard(item.image, ARRIVAL)
  end
end
return { state == 'erased' and 1 or 0, archives, item.image }
