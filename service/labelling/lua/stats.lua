-- Returns name and number, for each; all of one moment.
local reply = { 'pending', redis.call('ZCARD', PENDING), 'leased', redis.call('ZCARD', LEASED) }
for _, name in ipairs({ 'accepted', 'labelled', 'expired' }) do
  reply[#reply + 1] = name
  reply[#reply + 1] = tonumber(redis.call('HGET', COUNTS, name) or 0)
end
return reply
