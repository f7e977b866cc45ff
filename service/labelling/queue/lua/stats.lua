-- Returns name and value of each count, all of one moment.
local audit, ood = call('ZCARD', LANES.audit), call('ZCARD', LANES.ood_score)
local oldest = call('ZRANGE', AGES, 0, 0, 'WITHSCORES')[2]
local reply = {}

local function add(name, number)
  reply[#reply + 1] = name
  reply[#reply + 1] = number
end

add('pending', call('ZCARD', LANES.predicted_loss) + ood + audit)
add('leased', call('ZCARD', LEASED))
add('dead', call('ZCARD', DEAD))
for _, name in ipairs({ 'accepted', 'labelled', 'rejected', 'evicted', 'erased', 'expired', 'duplicates', 'bytes' }) do
  add(name, tonumber(call('HGET', COUNTS, name) or 0))
end
add('rejected_audit', tonumber(call('HGET', COUNTS, 'rejected_audit') or 0))
add('pending_audit', audit)
add('pending_ood', ood)
add('oldest_age_s', oldest and math.floor((NOW - oldest) / 1000000) or 0)
add('budget_left', budget_left())
return reply
