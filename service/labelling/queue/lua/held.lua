-- ARGV: ids. Returns the ids of samples that were put, in any state.
local held = {}
for i = 2, #ARGV do
  local item = read(ARGV[i])
  if item and item.state ~= 'arriving' then
    held[#held + 1] = ARGV[i]
  end
end
return held
