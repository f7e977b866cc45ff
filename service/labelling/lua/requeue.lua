-- ARGV: 'all' and a number, or 'ids' and ids. Returns how many dead letters became pending.
past_memory_limit()
local ids = {}
if ARGV[2] == 'all' then
  ids = redis.call('ZRANGE', DEAD, 0, tonumber(ARGV[3]) - 1)
else
  for i = 3, #ARGV do
    if redis.call('ZSCORE', DEAD, ARGV[i]) then
      ids[#ids + 1] = ARGV[i]
    end
  end
end
for _, id in ipairs(ids) do
  local item = read(id)
  redis.call('ZREM', DEAD, id)
  item.expiries = 0
  enter(id, item)
  make_room(item)
end
return #ids
