-- ARGV: id. Returns whether it was erased before, whether archives are to be looked through for labels of it, and
-- the name of its image, which is missing when the sample is unknown. Archives may hold labels in any case, also
-- from an earlier life that is forgotten, so it is noted until that is done.
-- Of a sample that is arriving the image may yet be written: it is deleted by the put that follows, or
-- when nothing follows for as long as an arrival may take. It was accepted in a reply, so it counts.
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
    count(state, -1)
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
