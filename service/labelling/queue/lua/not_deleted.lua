-- ARGV: name and mark of each blob that could not be deleted. They are put off, so that the others come first.
past_memory_limit()
for i = 2, #ARGV, 2 do
  if call('ZSCORE', GARBAGE, ARGV[i]) == ARGV[i + 1] then
    discard(ARGV[i], ARRIVAL)
  end
end
return 'OK'
