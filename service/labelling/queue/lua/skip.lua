-- ARGV: id, annotator, token. Returns skipped, or the state that forbids it (unknown, labelled, rejected, evicted,
-- erased, dead, and "held": leased to this annotator under another token). If the lease is over already, only the skip
-- is noted.
-- A sample that MAX_SKIPS annotators skipped becomes a dead letter. This also bounds the list of annotators.
local MAX_SKIPS = 16
past_memory_limit()
local id, digest = ARGV[2], skipper(ARGV[3])
local item = read(id)
if not item or item.state == 'arriving' then
  return 'unknown'
end
local skips = call('HGET', SKIPS, id) or ''
if string.find(skips, digest, 1, true) then
  return 'skipped'
end
if not is_live(item) then
  return item.state
end
local lease = lease_of(id)
local is_own = lease and lease.holder == cjson.encode({ ARGV[3], ARGV[4] })
if lease and not is_own and cjson.decode(lease.holder)[1] == ARGV[3] then
  return 'held'
end
skips = skips .. digest .. ' '
call('HSET', SKIPS, id, skips)
if is_own then
  refund(lease)
  release(id)
end
if #skips / #(digest .. ' ') >= MAX_SKIPS and (is_own or not lease) then
  if not lease then
    leave(id, item)
  end
  bury(id, item)
elseif is_own then
  enter(id, item)
  make_room(item)
end
return 'skipped'
