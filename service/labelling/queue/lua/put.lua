-- ARGV: id, lane, value, bytes, flagged_at, image, source and JSON of each sample.
-- Returns the ids of samples that must be announced again: their image belongs to an arrival that is over.
local again = {}

local function accept(id, item, given)
  item.lane, item.value, item.bytes, item.source = given.lane, given.value, given.bytes, given.source
  if is_later(given.flagged_at, item) then
    item.flagged_at = given.flagged_at
  end
  enter(id, item)
  call('HSET', SAMPLES, id, given.json)
  call('ZREM', ARRIVING, id)
  count('accepted', 1)
  make_room(item)
end

-- For a flagged sample that was now drawn for audit: its label counts in the audit lane, even if it already has one.
local function promote(id, item, given)
  if item.state == 'pending' then
    leave(id, item)
    item.lane = 'audit'
    enter(id, item)
  else
    item.lane = 'audit'
    write(id, item)
    if item.state == 'rejected' then
      count('rejected_audit', 1)
    end
  end
  call('HSET', SAMPLES, id, given.json)
end

local function repeated(id, item, given)
  if is_gone(item) then
    discard(item.image, 0)
  end
  if is_later(given.flagged_at, item) then
    item.flagged_at = given.flagged_at
    write(id, item)
    count('duplicates', 1)
  end
  if given.lane == 'audit' and item.lane ~= 'audit' and call('HEXISTS', SAMPLES, id) == 1 then
    promote(id, item, given)
  end
end

for i = 2, #ARGV, 8 do
  local id = ARGV[i]
  local given = { lane = ARGV[i + 1], value = ARGV[i + 2], bytes = ARGV[i + 3], flagged_at = ARGV[i + 4] }
  given.image, given.source, given.json = ARGV[i + 5], ARGV[i + 6], ARGV[i + 7]
  local item = met_by(id, given.flagged_at)
  if not item and given.image == id then -- never announced: its image is the caller's affair
    item = { state = 'arriving', image = id, named = 0, expiries = 0, arrived = tick() }
  end
  if not item or (given.image ~= id and given.image ~= item.image) then
    discard(given.image, 0)
    again[#again + 1] = id
  elseif item.state == 'arriving' then
    accept(id, item, given)
  else
    repeated(id, item, given)
  end
end
return again
