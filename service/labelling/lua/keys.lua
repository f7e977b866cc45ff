-- Head of every script of the queue. KEYS are all keys of one model's queue, under one hash tag, in
-- this order; no script makes up a key name, so that Redis Cluster can route it.
local SAMPLES, STATES = KEYS[1], KEYS[2] -- hashes: id -> sample JSON; id -> pending, leased, labelled
local PENDING = KEYS[3] -- sorted set: id by value
local LEASED, LEASES = KEYS[4], KEYS[5] -- sorted set: id by expiry; hash: id -> lease JSON
local HOLDERS, HELD = KEYS[6], KEYS[7] -- sorted set: holder by expiry; hash: holder -> ids it leased
local RECEIPTS, LABELS = KEYS[8], KEYS[9] -- hash: id -> receipt of its label; stream of labels
local COUNTS = KEYS[10] -- hash of counters

local function server_time_s()
  local time = redis.call('TIME')
  return tonumber(time[1]) + tonumber(time[2]) / 1e6
end
