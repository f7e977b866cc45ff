-- ARGV: n, microseconds. Returns the first n labels of the stream, in the form of labels.lua. Returns nothing if there
-- are fewer than n and the first one is not that old yet.
local found = records('-', ARGV[2])
if #found == 0 then
  return found
end
local age = now() - tonumber(string.match(found[1], '^%d+')) * 1000
return (#found / 4 >= tonumber(ARGV[2]) or age >= tonumber(ARGV[3])) and found or {}
