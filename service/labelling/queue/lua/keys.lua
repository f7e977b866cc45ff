-- Head of every script of the queue. KEYS are all keys of one model's queue, under one hash tag, in this order. No
-- script builds the name of a key, so that Redis Cluster can route it.
local ITEMS = KEYS[1] -- hash: id -> item (see items.lua)
local SAMPLES = KEYS[2] -- hash: id -> sample JSON
local LANES = { -- sorted sets of pending ids
  predicted_loss = KEYS[3], -- by value
  ood_score = KEYS[4], -- by value
  audit = KEYS[5], -- by arrival
}
local AGES = KEYS[6] -- sorted set: pending id by the start of its wait
local SOURCES = KEYS[7] -- of pending samples: source, value and id, in lexical order
local LEASED = KEYS[8] -- sorted set: leased id by expiry
local LEASES = KEYS[9] -- hash: id -> expiry, hour, place, holder
local HOLDERS = KEYS[10] -- sorted set: holder (annotator and token) by the time at which it is forgotten
local HOLDINGS = KEYS[11] -- of leased samples: holder, place in its lease and id, in lexical order
local SKIPS = KEYS[12] -- hash: id -> annotators who skipped it
local DEAD = KEYS[13] -- sorted set: id of a dead letter by the time of its death
local RECEIPTS = KEYS[14] -- hash: id -> digest of the request that finished it, then the label's cursor or the reason
local LABELS = KEYS[15] -- stream
local ARCHIVES = KEYS[16] -- names of archives, in lexical order of their last cursor
local ARRIVING = KEYS[17] -- sorted set: id by its last announcement
local FINISHED = KEYS[18] -- sorted set: finished id by time; evicted ones are in TOMBSTONES
local GARBAGE = KEYS[19] -- sorted set: name in the blob store by its mark, the time from which it may be deleted
local ERASURES = KEYS[20] -- hash: id -> 1, of erased samples whose labels may still be in archives
local TOMBSTONES = KEYS[21] -- sorted set: evicted id by time
local BOOKMARKS = KEYS[22] -- hash: annotator and lane -> rank at which the last lease stopped (see lease.lua)
local COUNTS = KEYS[23] -- hash of counters
local MODEL = string.match(KEYS[1], '{(.*)}')
local POLICY = cjson.decode(ARGV[1]) -- a service.labelling.queue.policy.QueuePolicy; other arguments start at ARGV[2]

-- All times are in microseconds, by the server's clock.
local function now()
  local time = call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

local function count(name, n)
  call('HINCRBY', COUNTS, name, n)
end

-- The time, but never the same time twice: it serves as a name and as an order.
local function tick()
  local last = tonumber(call('HGET', COUNTS, 'tick') or 0)
  local time = math.max(now(), last + 1)
  call('HSET', COUNTS, 'tick', time)
  return decimal(time)
end

-- At its maxmemory the server refuses a script if the first write may need memory, and checks only the first. This
-- first write needs none. Scripts that end or shrink things call it, so that they still work.
local function past_memory_limit()
  call('HDEL', COUNTS, '')
end
