-- Eviction: samples over a bound go, the least valuable first, never from the audit lane.
local EVICTIONS = 64 -- at most, for each sample that comes in: after a bound was lowered, several calls share the work

local function evict(id)
  local item = read(id)
  leave(id, item)
  finish_without_image(id, item, 'evicted')
end

local function bound_source(item)
  if not has_source(item) then
    return
  end
  local first, behind = '[' .. item.source .. '\0', '(' .. item.source .. '\1'
  local excess = call('ZLEXCOUNT', SOURCES, first, behind) - POLICY.max_pending_per_source
  for _ = 1, math.min(excess, EVICTIONS) do
    local least = call('ZRANGEBYLEX', SOURCES, first, behind, 'LIMIT', 0, 1)[1]
    evict(string.sub(least, #item.source + 10)) -- after the zero and the eight bytes of the value
  end
end

-- Two lanes can lose samples. This returns the one that is fuller, measured by its share of the leases.
local function fullest_lane(loss, ood)
  local loss_share = 1 - POLICY.audit_share - POLICY.ood_share
  if loss == 0 or (ood > 0 and ood * loss_share > loss * POLICY.ood_share) then
    return 'ood_score'
  end
  return 'predicted_loss'
end

-- To be called after each sample that became pending. The audit lane counts for max_bytes, since its images fill the
-- disk as well. It does not count for max_pending: else a full audit lane would evict all other samples.
local function make_room(item)
  bound_source(item)
  for _ = 1, EVICTIONS do
    local loss, ood = call('ZCARD', LANES.predicted_loss), call('ZCARD', LANES.ood_score)
    local bytes = tonumber(call('HGET', COUNTS, 'bytes') or 0)
    if loss + ood == 0 or (loss + ood <= POLICY.max_pending and bytes <= POLICY.max_bytes) then
      return
    end
    evict(call('ZRANGE', LANES[fullest_lane(loss, ood)], 0, 0)[1])
  end
end
