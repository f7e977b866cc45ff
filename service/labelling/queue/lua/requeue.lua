-- ARGV: 'all' and a number, or 'ids' and ids. Returns how many dead letters became pending. Their expiries and skips
-- are forgotten: an operator wants somebody to look at them again.
past_memory_limit()
local ids = ARGV[2] == 'all' and call('ZRANGE', DEAD, 0, tonumber(ARGV[3]) - 1) or { unpack(ARGV, 3) }
local requeued = 0
for _, id in ipairs(ids) do
  if call('ZREM', DEAD, id) == 1 then
    local item = read(id)
    item.expiries = 0
    call('HDEL', SKIPS, id)
    enter(id, item)
    make_room(item)
    requeued = requeued + 1
  end
end
return requeued
