-- ARGV: ids. Returns those that this server holds. The caller sends WAITAOF behind this on the same
-- connection: the SET moves its replication offset past every earlier write. SET is refused when
-- memory is out unless a write came before it in the script, hence the ZREM of nothing.
local held = {}
for _, id in ipairs(ARGV) do
  if redis.call('HEXISTS', STATES, id) == 1 then
    held[#held + 1] = id
  end
end
redis.call('ZREM', PENDING, '')
redis.call('SET', SETTLED, tostring(server_time_s()))
return held
