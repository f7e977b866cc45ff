-- An item is what the queue itself must know of a sample. Its states: arriving (announced: the image may
-- be being written), pending, leased, labelled, rejected, dead, evicted, erased.
local ARRIVAL = 3600 * 1000000 -- an announced sample that was not put by then is taken for lost

-- Name of the image. It holds the time of the arrival, so that deleting the image of an arrival that is
-- over can never hit the next one; and when this queue was born, so that no other queue takes it for its own.
local function named(id, arrived)
  local born = call('HGET', COUNTS, 'born')
  if not born then
    born = tick()
    call('HSET', COUNTS, 'born', born)
  end
  return 'images/' .. MODEL .. '/' .. born .. '/' .. string.sub(id, 1, 2) .. '/' .. id .. '-' .. arrived
end

local function discard(image, delay)
  call('ZADD', GARBAGE, tonumber(tick()) + delay, image)
end

local function read(id)
  local text = call('HGET', ITEMS, id)
  if not text then
    return nil
  end
  local item = {}
  item.state, item.lane, item.value, item.bytes, item.expiries, item.arrived, item.flagged_at, item.named, item.source =
    string.match(text, '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (.*)$')
  item.image = item.named == '1' and named(id, item.arrived) or id
  return item
end

-- Drops what is known of an evicted sample. The counters keep that it was accepted and evicted.
local function drop_tombstone(id)
  call('ZREM', TOMBSTONES, id)
  call('HDEL', ITEMS, id)
end

-- At most two for each that comes, so that no call has much to do, and a bound that was lowered is reached.
local function bound_tombstones()
  local excess = math.min(call('ZCARD', TOMBSTONES) - POLICY.max_tombstones, 2)
  if excess > 0 then
    for _, id in ipairs(call('ZRANGE', TOMBSTONES, 0, excess - 1)) do
      drop_tombstone(id)
    end
  end
end

-- Whether the image has come again. Only what is flagged later than all that the item has seen is known to
-- be no repetition by a drain that crashed: with several replicas, any earlier one may be.
local function is_later(flagged_at, item)
  return tonumber(flagged_at) > (tonumber(item.flagged_at) or -math.huge)
end

-- The item as an arrival meets it: nothing when its sample was evicted and the image has come again since,
-- which is a new arrival.
local function met_by(id, flagged_at)
  local item = read(id)
  if item and item.state == 'evicted' and is_later(flagged_at, item) then
    drop_tombstone(id)
    discard(item.image, 0)
    return nil
  end
  return item
end

local function write(id, item)
  local parts = { item.state, item.lane, item.value, item.bytes, decimal(item.expiries), item.arrived, item.flagged_at }
  call('HSET', ITEMS, id, table.concat(parts, ' ') .. ' ' .. item.named .. ' ' .. item.source)
end

local function is_live(item)
  return item.state == 'pending' or item.state == 'leased'
end

-- Its image is deleted, or about to be.
local function is_gone(item)
  return item.state == 'evicted' or item.state == 'erased'
end

-- Eight bytes that sort as the number does: IEEE 754 with its sign turned round, or all of it when negative.
local function sortable(value)
  local bytes = struct.pack('>d', value + 0)
  if string.byte(bytes) < 128 then
    return string.char(string.byte(bytes) + 128) .. string.sub(bytes, 2)
  end
  return (string.gsub(bytes, '.', function(byte)
    return string.char(255 - string.byte(byte))
  end))
end

local function in_sources(id, item)
  return item.source .. '\0' .. sortable(item.value) .. id
end

local function has_source(item)
  return item.source ~= '' and item.lane ~= 'audit'
end

-- Into its lane. The ZADD comes first: it alone can be refused (memory, a value that is no number), and
-- then nothing has changed.
local function enter(id, item)
  call('ZADD', LANES[item.lane], item.lane == 'audit' and item.arrived or item.value, id)
  call('ZADD', AGES, now(), id) -- what comes back after long is not past retention at once
  if has_source(item) then
    call('ZADD', SOURCES, 0, in_sources(id, item))
  end
  if not is_live(item) then
    count('bytes', item.bytes)
  end
  item.state = 'pending'
  write(id, item)
end

-- Out of its lane; where to is the caller's to say.
local function leave(id, item)
  call('ZREM', LANES[item.lane], id)
  call('ZREM', AGES, id)
  if has_source(item) then
    call('ZREM', SOURCES, in_sources(id, item))
  end
end

local function retire(id, item, state)
  if is_live(item) then
    count('bytes', -item.bytes)
  end
  item.state = state
  write(id, item)
end

local function bury(id, item)
  call('ZADD', DEAD, now(), id)
  retire(id, item, 'dead')
end

-- Ends the life of a sample, which must have left what it was in. The item stays until it is forgotten.
local function finish(id, item, state)
  if item.state == 'evicted' then -- and now erased
    call('ZREM', TOMBSTONES, id)
  end
  call('ZADD', state == 'evicted' and TOMBSTONES or FINISHED, now(), id)
  retire(id, item, state)
  count(state, 1)
end

local function finish_without_image(id, item, state)
  finish(id, item, state)
  call('HDEL', SAMPLES, id)
  call('HDEL', RECEIPTS, id)
  call('HDEL', SKIPS, id)
  discard(item.image, 0)
  if state == 'evicted' then
    bound_tombstones()
  end
end
