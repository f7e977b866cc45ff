-- ARGV: names of images in the blob store. Discards each that no sample has, unless it may still be arriving. Returns
-- how many were discarded.
past_memory_limit() -- discarded images will free the disk
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
