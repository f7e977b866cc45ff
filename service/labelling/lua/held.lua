-- ARGV: ids. Returns those that this server knows, in whatever state.
local held = {}
for _, id in ipairs(ARGV) do
  if redis.call('HEXISTS', STATES, id) == 1 then
    held[#held + 1] = id
  end
end
return held
