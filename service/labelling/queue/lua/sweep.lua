-- ARGV: n. Ends up to n leases that ran out. Returns how many.
past_memory_limit()
return sweep(tonumber(ARGV[2]))
