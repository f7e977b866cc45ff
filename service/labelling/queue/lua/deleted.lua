-- ARGV: name and mark of each blob that was deleted. A blob that was discarded again since then has another mark, and
-- stays on the list.
past_memory_limit()
for i = 2, #ARGV, 2 do
  if call('ZSCORE', GARBAGE, ARGV[i]) == ARGV[i + 1] then
    call('ZREM', GARBAGE, ARGV[i])
  end
end
return 'OK'
