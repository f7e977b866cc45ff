-- ARGV: n, annotator, token, microseconds. Returns sample JSON and expiry, for each sample.
-- The lanes take turns by smooth weighted round robin: each sample leased credits every lane that has
-- one to offer with its share and debits the lane that gives it. The credits outlive the call, so the
-- shares hold for leases of one, too.
local SWEEP = 1000 -- most leases returned by one call
local ORDER = { 'predicted_loss', 'audit', 'ood_score' }
local SHARES = {
  predicted_loss = math.max(1 - POLICY.audit_share - POLICY.ood_share, 0),
  ood_score = POLICY.ood_share,
  audit = POLICY.audit_share,
}
local annotator, token = ARGV[3], ARGV[4]
local holder = cjson.encode({ annotator, token })
local digest = skipper(annotator)

-- A function that gives the lane's next id which this annotator has not skipped, nil at the end. What
-- it costs grows with the samples that this annotator skipped and nobody has taken since.
local function offers(lane)
  local chunk, from, at, ids, skips = math.max(tonumber(ARGV[2]), 16), 0, 0, {}, {}
  return function()
    repeat
      at = at + 1
      if at > #ids then
        ids = redis.call(lane == 'audit' and 'ZRANGE' or 'ZREVRANGE', LANES[lane], from, from + chunk - 1)
        if #ids == 0 then
          return nil
        end
        skips = redis.call('HMGET', SKIPS, unpack(ids))
        from, at = from + chunk, 1
      end
    until not (skips[at] and string.find(skips[at], digest, 1, true))
    return ids[at]
  end
end

local function choose(n)
  local next_of, heads, credits, chosen = {}, {}, {}, {}
  for _, lane in ipairs(ORDER) do
    next_of[lane] = offers(lane)
    heads[lane] = next_of[lane]()
    credits[lane] = tonumber(redis.call('HGET', COUNTS, 'credit ' .. lane) or 0)
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
    redis.call('HSET', COUNTS, 'credit ' .. lane, string.format('%.17g', credit))
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
  for place, id in ipairs(ids) do
    local item = read(id)
    leave(id, item)
    item.state = 'leased'
    write(id, item)
    local lease = { expiry = expiry, hour = hour(), place = string.format('%04d', place), holder = holder }
    set_lease(id, lease)
    redis.call('ZADD', HOLDINGS, 0, in_holdings(id, lease))
  end
  charge(#ids)
  redis.call('ZADD', HOLDERS, expiry, holder)
end
return leased_reply(ids)
