-- Up to n labels of the stream from `first` on, with their samples.
local function records(first, n)
  local reply = {}
  for _, entry in ipairs(call('XRANGE', LABELS, first, '+', 'COUNT', n)) do
    local fields = {}
    for i = 1, #entry[2], 2 do
      fields[entry[2][i]] = entry[2][i + 1]
    end
    for _, part in ipairs({ entry[1], fields.annotator, fields.label, call('HGET', SAMPLES, fields.sample_id) }) do
      reply[#reply + 1] = part
    end
  end
  return reply
end
