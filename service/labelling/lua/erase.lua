-- ARGV: id. Returns the name of its image and 1 when its label is in an archive, or nothing when unknown.
-- Of a sample that is arriving the image may yet be written: it is deleted by the put that follows, or
-- when nothing follows for as long as an arrival may take. It was accepted in a reply, so it counts.
past_memory_limit()
local id = ARGV[2]
local item = read(id)
if not item then
  return {}
end
local state = item.state
if state ~= 'erased' then
  if state == 'arriving' then
    redis.call('ZREM', ARRIVING, id)
    count('accepted', 1)
  elseif state == 'pending' then
    leave(id, item)
  elseif state == 'leased' then
    refund(lease_of(id))
    release(id)
  elseif state == 'dead' then
    redis.call('ZREM', DEAD, id)
  else
    count(state, -1)
  end
  if state == 'labelled' then
    local cursor = string.match(redis.call('HGET', RECEIPTS, id), '^%S+ (%S+)$')
    if redis.call('XDEL', LABELS, cursor) == 0 then
      redis.call('HSET', ERASURES, id, cursor)
    end
  end
  finish_without_image(id, item, 'erased')
  if state == 'arriving' then
    discard(item.image, ARRIVAL)
  end
end
return { item.image, redis.call('HEXISTS', ERASURES, id) }
