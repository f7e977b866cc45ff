-- ARGV: id and flagged_at of each sample. Returns for each the name of its image, and 1 if the image must be written.
-- The image of an evicted or erased sample is deleted once more: an interrupted arrival may have written it since.
local reply = {}
for i = 2, #ARGV, 2 do
  local id = ARGV[i]
  local item = met_by(id, ARGV[i + 1])
  if not item then
    local arrived = tick()
    item = { state = 'arriving', lane = '-', value = 0, bytes = 0, expiries = 0, arrived = arrived }
    item.flagged_at, item.named, item.source, item.image = ARGV[i + 1], 1, '', named(id, arrived)
    write(id, item)
  end
  if item.state == 'arriving' then
    call('ZADD', ARRIVING, now(), id)
  elseif is_gone(item) then
    discard(item.image, 0)
  end
  reply[#reply + 1] = item.image
  reply[#reply + 1] = item.state == 'arriving' and 1 or 0
end
return reply
