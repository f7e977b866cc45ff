-- ARGV: names of images that are in the blob store. Discards those that no sample has, unless their
-- arrival may be under way. Returns how many.
past_memory_limit() -- what it discards is about to free a disk
local orphans = 0
for i = 2, #ARGV do
  local id, arrived = string.match(ARGV[i], '/(%x+)-(%d+)$')
  local item = read(id)
  local is_claimed = item and item.image == ARGV[i] and not is_gone(item)
  if not is_claimed and tonumber(arrived) < now() - ARRIVAL then
    discard(ARGV[i], 0)
    orphans = orphans + 1
  end
end
return orphans
