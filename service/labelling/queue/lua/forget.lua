-- ARGV: n. Ends up to n samples of each kind that have lasted too long: announced samples that were never put, pending
-- samples and dead letters past retention, and finished samples past retention, unless their label is not archived yet.
-- A labelled sample keeps its item, which claims the label's image, and its receipt: a label is kept until it is
-- erased, and is worth nothing without its image. Returns how many samples were ended.
past_memory_limit()
local limit, horizon, ended = ARGV[2], now() - POLICY.retention_s * 1000000, 0

local function overdue(key, time)
  return ipairs(call('ZRANGEBYSCORE', key, '-inf', time, 'LIMIT', 0, limit))
end

local function is_needed(id, item)
  if item.state ~= 'labelled' then
    return call('HEXISTS', ERASURES, id) == 1
  end
  local cursor = string.match(call('HGET', RECEIPTS, id), '^%S+ (%S+)$')
  return #call('XRANGE', LABELS, cursor, cursor) > 0
end

for _, id in overdue(ARRIVING, now() - ARRIVAL) do
  discard(read(id).image, 0)
  call('ZREM', ARRIVING, id)
  call('HDEL', ITEMS, id)
  ended = ended + 1
end
for _, id in overdue(AGES, horizon) do
  evict(id)
  ended = ended + 1
end
for _, id in overdue(DEAD, horizon) do
  call('ZREM', DEAD, id)
  finish_without_image(id, read(id), 'evicted')
  ended = ended + 1
end
for _, id in overdue(TOMBSTONES, horizon) do
  drop_tombstone(id)
  ended = ended + 1
end
for _, id in overdue(FINISHED, horizon) do
  local item = read(id)
  if not is_needed(id, item) then
    call('ZREM', FINISHED, id)
    call('HDEL', SAMPLES, id)
    call('HDEL', SKIPS, id)
    if item.state ~= 'labelled' then
      if not is_gone(item) then
        discard(item.image, 0)
      end
      call('HDEL', ITEMS, id)
      call('HDEL', RECEIPTS, id)
    end
    ended = ended + 1
  end
end
return ended
