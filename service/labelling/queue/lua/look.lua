-- ARGV: id. Returns sample JSON, state, and the note of a rejected sample ('' in other states). Returns nothing if the
-- sample is unknown or its JSON is gone.
local json, item = call('HGET', SAMPLES, ARGV[2]), read(ARGV[2])
if not json or not item then
  return false
end
local note = item.state == 'rejected' and string.match(call('HGET', RECEIPTS, ARGV[2]), '^%S+ (.*)$') or ''
return { json, item.state, note }
