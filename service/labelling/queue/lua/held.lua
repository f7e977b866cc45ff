-- ARGV: ids. Returns those that were put, in whatever state they are now.
local held = {}
for i = 2, #ARGV do
  local item = read(ARGV[i])
  if item and item.state ~= 'arriving' then
    held[#held + 1] = ARGV[i]
  end
end
return held
