-- ARGV: name and mark of blobs that could not be deleted: put off, so that they do not stand before the others.
past_memory_limit()
for i = 2, #ARGV, 2 do
  if call('ZSCORE', GARBAGE, ARGV[i]) == ARGV[i + 1] then
    discard(ARGV[i], ARRIVAL)
  end
end
return 'OK'
