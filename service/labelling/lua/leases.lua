-- Leases and the hourly budget. A leased sample is charged to the hour of its lease; an hour that is over
-- gets nothing back.
local HOUR = 3600 * 1000000

local function hour()
  return string.format('%.0f', math.floor(now() / HOUR))
end

local function charged()
  local found = redis.call('HMGET', COUNTS, 'hour', 'charged')
  return found[1] == hour() and tonumber(found[2]) or 0
end

local function charge(n)
  redis.call('HSET', COUNTS, 'charged', math.max(charged() + n, 0), 'hour', hour())
end

local function budget_left()
  local limit = POLICY.labels_per_hour
  return limit == cjson.null and -1 or math.max(limit - charged(), 0)
end

local function seconds(time)
  return string.format('%.6f', time / 1000000)
end

local function lease_of(id)
  local text = redis.call('HGET', LEASES, id)
  if not text then
    return nil
  end
  local expiry, charged_hour, holder = string.match(text, '^(%S+) (%S+) (.*)$')
  return { expiry = tonumber(expiry), hour = charged_hour, holder = holder }
end

local function set_lease(id, lease)
  redis.call('ZADD', LEASED, lease.expiry, id)
  redis.call('HSET', LEASES, id, string.format('%.0f %s ', lease.expiry, lease.hour) .. lease.holder)
end

-- Ends the lease of a sample; where the sample goes is the caller's to say.
local function release(id)
  redis.call('ZREM', LEASED, id)
  redis.call('HDEL', LEASES, id)
end

local function refund(lease)
  if lease.hour == hour() then
    charge(-1)
  end
end

local function sweep(limit)
  local expired = redis.call('ZRANGEBYSCORE', LEASED, '-inf', now(), 'LIMIT', 0, limit)
  for _, id in ipairs(expired) do
    local item = read(id)
    refund(lease_of(id))
    release(id)
    count('expired', 1)
    item.expiries = item.expiries + 1
    if item.expiries >= POLICY.max_expiries then
      bury(id, item)
    else
      enter(id, item)
      make_room(item)
    end
  end
  for _, holder in ipairs(redis.call('ZRANGEBYSCORE', HOLDERS, '-inf', now(), 'LIMIT', 0, limit)) do
    redis.call('ZREM', HOLDERS, holder)
    redis.call('HDEL', HELD, holder)
  end
  return #expired
end

-- The ids that a holder still holds, in the order in which it got them; nil when it never leased any.
local function held_by(holder)
  local ids = redis.call('HGET', HELD, holder)
  if not ids then
    return nil
  end
  local held = {}
  for id in string.gmatch(ids, '%S+') do
    local lease = lease_of(id)
    if lease and lease.holder == holder then
      held[#held + 1] = id
    end
  end
  return held
end

local function remember(holder, ids, expiry)
  redis.call('ZADD', HOLDERS, expiry, holder)
  redis.call('HSET', HELD, holder, table.concat(ids, ' '))
end

-- Sample JSON and expiry in seconds, for each.
local function leased_reply(ids)
  local reply = {}
  for _, id in ipairs(ids) do
    reply[#reply + 1] = redis.call('HGET', SAMPLES, id)
    reply[#reply + 1] = seconds(lease_of(id).expiry)
  end
  return reply
end

-- What stands for an annotator in the list of those who skipped a sample.
local function skipper(annotator)
  return string.sub(redis.sha1hex(annotator), 1, 16)
end
