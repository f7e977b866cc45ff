-- ARGV: name and mark of blobs that were deleted. One that was discarded again since has another mark.
past_memory_limit()
for i = 2, #ARGV, 2 do
  if call('ZSCORE', GARBAGE, ARGV[i]) == ARGV[i + 1] then
    call('ZREM', GARBAGE, ARGV[i])
  end
end
return 'OK'
