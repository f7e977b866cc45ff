-- ARGV: id, annotator, token, label JSON, receipt (digest of annotator, token and label).
-- Returns accepted, repeated (the same request again), conflict (labelled before) or unknown.
-- A sample needs no lease to be labelled: a late label is taken as long as there is none.
-- The first write is a removal, so that labelling goes on when memory is out.
local id = ARGV[1]
local state = redis.call('HGET', STATES, id)
if not state then
  return 'unknown'
end
if state == 'labelled' then
  return redis.call('HGET', RECEIPTS, id) == ARGV[5] and 'repeated' or 'conflict'
end
redis.call('ZREM', PENDING, id)
redis.call('ZREM', LEASED, id)
redis.call('HDEL', LEASES, id)
redis.call('HSET', STATES, id, 'labelled')
redis.call('HSET', RECEIPTS, id, ARGV[5])
redis.call('XADD', LABELS, '*', 'sample_id', id, 'annotator', ARGV[2], 'token', ARGV[3], 'label', ARGV[4])
redis.call('HINCRBY', COUNTS, 'labelled', 1)
return 'accepted'
