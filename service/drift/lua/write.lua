-- KEYS: leader, report. ARGV: token, state ('' leaves the stored one), report, their retention in milliseconds.
-- Writes only if the token is that of the last leader. Returns 1, or 0 if it refused.
if call('HGET', KEYS[1], 'token') ~= ARGV[1] then
  return 0
end
call('HSET', KEYS[2], 'report', ARGV[3])
if ARGV[2] ~= '' then
  call('HSET', KEYS[2], 'state', ARGV[2])
end
call('PEXPIRE', KEYS[2], ARGV[4])
return 1
