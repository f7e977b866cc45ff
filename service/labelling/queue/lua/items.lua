-- An item holds everything that the queue itself must know about a sample. Its states: arriving (announced: its image
-- may be on its way to the blob store), pending, leased, labelled, rejected, dead, evicted, erased.
local ARRIVAL = 3600 * 1000000 -- an announced sample that is not put within this time counts as lost

-- Name of the image. It contains the time of the arrival: so deleting the image of an old arrival can never hit a new
-- one.
-- It also contains the time at which this queue began: so no other queue takes the image for its own.
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

-- Forgets an evicted sample. The counters still have it as accepted and evicted.
local function drop_tombstone(id)
  call('ZREM', TOMBSTONES, id)
  call('HDEL', ITEMS, id)
end

-- Forgets at most two for each that comes: no call has much to do, and a lowered bound is still reached.
local function bound_tombstones()
  local excess = math.min(call('ZCARD', TOMBSTONES) - POLICY.max_tombstones, 2)
  if excess > 0 then
    for _, id in ipairs(call('ZRANGE', TOMBSTONES, 0, excess - 1)) do
      drop_tombstone(id)
    end
  end
end

-- Whether the image has come again. This is only sure if it was flagged later than everything that the item has seen.
-- Otherwise it may be a repetition by a drain that crashed: with several replicas, repetitions come in any order.
local function is_later(flagged_at, item)
  return tonumber(flagged_at) > (tonumber(item.flagged_at) or -math.huge)
end

-- The item that an arriving sample finds. Returns nothing if the sample was evicted and its image has come again since:
-- that is a new arrival.
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

-- Whether its image is deleted, or will be soon.
local function is_gone(item)
  return item.state == 'evicted' or item.state == 'erased'
end

-- Eight bytes that sort like the number: IEEE 754 with the sign bit inverted, or all bits for a negative number.
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

-- Puts a sample into its lane. The ZADD comes first: only this command can be refused (no memory, a value that is not a
-- number), and then nothing has changed.
local function enter(id, item)
  call('ZADD', LANES[item.lane], item.lane == 'audit' and item.arrived or item.value, id)
  call('ZADD', AGES, NOW, id) -- from now on: a sample that comes back after a long time is not past retention at once
  if has_source(item) then
    call('ZADD', SOURCES, 0, in_sources(id, item))
  end
  if not is_live(item) then
    count('bytes', item.bytes)
  end
  item.state = 'pending'
  write(id, item)
end

-- Takes a sample out of its lane. The caller decides its next state.
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
  call('ZADD', DEAD, NOW, id)
  retire(id, item, 'dead')
end

-- Counts n more samples, or fewer, that ended in a state. Rejected audits are counted apart: who judges a candidate by
-- audit labels must know how many images of theirs have none.
local function count_ended(item, state, n)
  count(state, n)
  if state == 'rejected' and item.lane == 'audit' then
    count('rejected_audit', n)
  end
end

-- Ends the life of a sample that has left its lane or lease. The item stays until it is forgotten.
local function finish(id, item, state)
  if item.state == 'evicted' then -- and now erased
    call('ZREM', TOMBSTONES, id)
  end
  call('ZADD', state == 'evicted' and TOMBSTONES or FINISHED, NOW, id)
  retire(id, item, state)
  count_ended(item, state, 1)
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
