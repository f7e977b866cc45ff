-- ARGV: most leases to end. Returns how many ran out.
past_memory_limit()
return sweep(tonumber(ARGV[2]))
