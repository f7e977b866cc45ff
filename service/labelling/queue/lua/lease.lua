-- ARGV: n, annotator, token, microseconds. Returns JSON and expiry of each sample.
-- The lanes take turns by smooth weighted round robin: for each sample leased, every lane that has one to offer gets
-- its share as a credit, and the lane that gives the sample pays 1. The credits outlive the call, so that the shares
-- also hold for leases of one sample.
local SWEEP = 1000 -- most expired leases that one call ends
local ORDER = { 'predicted_loss', 'audit', 'ood_score' }
local SHARES = {
  predicted_loss = math.max(1 - POLICY.audit_share - POLICY.ood_share, 0),
  ood_score = POLICY.ood_share,
  audit = POLICY.audit_share,
}
local RANGES = { predicted_loss = 'ZREVRANGE', ood_score = 'ZREVRANGE', audit = 'ZRANGE' }
-- For each lane, so that no lane takes them from another. With fewer than two, a lease would not get further.
local PASSES = math.max(math.floor(POLICY.max_passed_over / #ORDER), 2)
local annotator, token = ARGV[3], ARGV[4]
local holder = cjson.encode({ annotator, token })
local digest = skipper(annotator)

local function bookmark_of(lane)
  return digest .. ' ' .. lane
end

-- Returns a function that gives the lane's next id which this annotator has not skipped. It gives nil at the end of the
-- lane, and after it passed over PASSES skipped samples: then it notes how far it came. The next lease spends half of
-- its passes at the front, where the most valuable samples are, and the other half from the noted place on. After the
-- end of the lane the next lease starts at the front again. So every sample gets its turn, whatever others take or add.
local function offers(lane, bookmark)
  local goes_on_at, chunk = tonumber(bookmark or 0), math.max(tonumber(ARGV[2]), 16)
  local rank, passed, taken = 0, 0, 0
  local first, ids, skips = 0, {}, {} -- a part of the lane: the rank of its first id, and its ids
  return function()
    while passed < PASSES do
      if rank < goes_on_at and passed >= PASSES / 2 then
        rank = goes_on_at
      end
      if rank >= first + #ids then
        first, ids = rank, call(RANGES[lane], LANES[lane], rank, rank + chunk - 1)
        if #ids == 0 then
          if goes_on_at > 0 then
            call('HDEL', BOOKMARKS, bookmark_of(lane))
          end
          return nil
        end
        skips = call('HMGET', SKIPS, unpack(ids))
        chunk = math.min(2 * chunk, 1000)
      end
      rank = rank + 1
      local skipped_by = skips[rank - first]
      if not (skipped_by and string.find(skipped_by, digest, 1, true)) then
        taken = taken + 1
        return ids[rank - first]
      end
      passed = passed + 1
    end
    call('HSET', BOOKMARKS, bookmark_of(lane), rank - taken) -- samples that are taken leave the lane
    return nil
  end
end

local function choose(n)
  local next_of, heads, credits, chosen = {}, {}, {}, {}
  local bookmarks = call('HMGET', BOOKMARKS, bookmark_of(ORDER[1]), bookmark_of(ORDER[2]), bookmark_of(ORDER[3]))
  for i, lane in ipairs(ORDER) do
    next_of[lane] = offers(lane, bookmarks[i])
    heads[lane] = next_of[lane]()
    credits[lane] = tonumber(call('HGET', COUNTS, 'credit ' .. lane) or 0)
  end
  while #chosen < n do
    local total, best = 0, nil
    for _, lane in ipairs(ORDER) do
      total = total + (heads[lane] and SHARES[lane] or 0)
    end
    for _, lane in ipairs(ORDER) do
      if heads[lane] and (SHARES[lane] > 0 or total == 0) then
        credits[lane] = credits[lane] + (total > 0 and SHARES[lane] / total or 0)
        if not best or credits[lane] > credits[best] then
          best = lane
        end
      end
    end
    if not best then
      break
    end
    if total > 0 then
      credits[best] = credits[best] - 1
    end
    chosen[#chosen + 1] = heads[best]
    heads[best] = next_of[best]()
  end
  for lane, credit in pairs(credits) do
    call('HSET', COUNTS, 'credit ' .. lane, credit)
  end
  return chosen
end

past_memory_limit()
sweep(SWEEP)
local held = held_by(holder)
if held then
  return leased_reply(held)
end
local n = tonumber(ARGV[2])
local left = budget_left()
local ids = choose(left < 0 and n or math.min(n, left))
if #ids > 0 then
  local expiry = now() + tonumber(ARGV[5])
  local held_now = {} -- one command for all: the append-only file has an entry for each command
  for place, id in ipairs(ids) do
    local item = read(id)
    leave(id, item)
    item.state = 'leased'
    write(id, item)
    local lease = { expiry = expiry, hour = hour(), place = string.format('%04d', place), holder = holder }
    set_lease(id, lease)
    held_now[#held_now + 1] = 0
    held_now[#held_now + 1] = in_holdings(id, lease)
  end
  call('ZADD', HOLDINGS, unpack(held_now))
  charge(#ids)
  call('ZADD', HOLDERS, expiry, holder)
end
return leased_reply(ids)
