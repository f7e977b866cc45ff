-- Head of every script: how numbers reach the server. Scripts use `call`, never redis.call.
-- Left to themselves, Lua and the server write numbers in ways that the server refuses or that lose digits: Redis
-- before 7.2 is given "-0" and "1e+17", which HINCRBY refuses, and Lua's `..` keeps 14 digits, too few for
-- microseconds.

-- The number in full: a whole one as digits alone, any other with all the digits of a double.
local function decimal(number)
  number = number + 0 -- text becomes a number, and -0 becomes 0
  return string.format(number % 1 == 0 and '%.0f' or '%.17g', number)
end

local function call(...)
  local n, parts = select('#', ...), { ... }
  for i = 1, n do
    if type(parts[i]) == 'number' then
      parts[i] = decimal(parts[i])
    end
  end
  return redis.call(unpack(parts, 1, n))
end
