-- Head of every script of the queue. KEYS are all keys of one model's queue, under one hash tag, in
-- this order; no script makes up a key name, so that Redis Cluster can route it.
local ITEMS, SAMPLES = KEYS[1], KEYS[2] -- hashes: id -> item (see items.lua); id -> sample JSON
local LANES = { -- sorted sets of pending ids: by value, by value, by arrival
  predicted_loss = KEYS[3],
  ood_score = KEYS[4],
  audit = KEYS[5],
}
local AGES, SOURCES = KEYS[6], KEYS[7] -- of the pending: id by start of the wait; source, value and id in lexical order
local LEASED, LEASES = KEYS[8], KEYS[9] -- sorted set: id by expiry; hash: id -> expiry, hour, place, holder
local HOLDERS = KEYS[10] -- sorted set: holder (annotator and token) by the time until which it is remembered
local HOLDINGS = KEYS[11] -- holder, place in its lease and id of the leased, in lexical order
local SKIPS, DEAD = KEYS[12], KEYS[13] -- hash: id -> annotators who skipped it; sorted set: id by time of death
local RECEIPTS = KEYS[14] -- hash: id -> digest of the request that finished it, then label's cursor or reason
local LABELS, ARCHIVES = KEYS[15], KEYS[16] -- stream; names of archives, in lexical order of their last cursor
local ARRIVING, FINISHED = KEYS[17], KEYS[18] -- sorted sets: id by last announcement; id by time, save evicted ones
local GARBAGE = KEYS[19] -- sorted set: name in the blob store by the time from which it may be deleted
local ERASURES = KEYS[20] -- hash: id -> 1, of erased samples whose labels may be in archives still
local TOMBSTONES = KEYS[21] -- sorted set: evicted id by time
local BOOKMARKS = KEYS[22] -- hash: annotator and lane -> rank at which the last lease gave up (see lease.lua)
local COUNTS = KEYS[23] -- hash of counters
local MODEL = string.match(KEYS[1], '{(.*)}')
local POLICY = cjson.decode(ARGV[1]) -- service.labelling.queue.policy.QueuePolicy; ARGV[2] on is the script's own

-- All times are microseconds of the server's clock.
local function now()
  local time = call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

local function count(name, n)
  call('HINCRBY', COUNTS, name, n)
end

-- The time, but never the same twice, so that it can serve as a name and as an order.
local function tick()
  local last = tonumber(call('HGET', COUNTS, 'tick') or 0)
  local time = math.max(now(), last + 1)
  call('HSET', COUNTS, 'tick', time)
  return decimal(time)
end

-- At its maxmemory the server refuses the first write of a script, and only that, if it may need memory.
-- This one needs none: what ends or shrinks things goes on.
local function past_memory_limit()
  call('HDEL', COUNTS, '')
end
