-- One refinement of a model at a time, over all hosts. A token that only grows fences off a holder that lost the lock.
-- KEYS: the lock (a hash: holder, token, until in ms). It never expires, because its token must not start again.
-- ARGV: 'take', holder, ms, smallest token to exceed | 'keep', token, ms | 'drop', token | 'look'.
-- Returns: 1 if it did what was asked (else 0), holder ('' if free), token, ms that are left.
local LOCK, verb = KEYS[1], ARGV[1]
local clock = call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local known = call('HMGET', LOCK, 'holder', 'token', 'until')
local holder, token, ends = known[1] or '', tonumber(known[2] or 0), tonumber(known[3] or 0)
if ends <= now then
  holder, ends = '', now
end

local done = 1
if verb == 'take' then
  if holder == '' then
    token = math.max(token, tonumber(ARGV[4])) + 1
  elseif holder ~= ARGV[2] then
    done = 0
  end
  if done == 1 then -- the same holder asks again after a lost reply
    holder, ends = ARGV[2], now + tonumber(ARGV[3])
  end
elseif verb == 'keep' then
  done = holder ~= '' and token == tonumber(ARGV[2]) and 1 or 0
  if done == 1 then
    ends = now + tonumber(ARGV[3])
  end
elseif verb == 'drop' then
  done = holder ~= '' and token == tonumber(ARGV[2]) and 1 or 0
  if done == 1 then
    holder, ends = '', now
  end
end
if done == 1 and verb ~= 'look' then
  call('HSET', LOCK, 'holder', holder, 'token', decimal(token), 'until', decimal(ends))
end
return { done, holder, decimal(token), decimal(ends - now) }
