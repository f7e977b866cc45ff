-- Returns when this queue was born, which is in the names of its images; nothing when none was announced.
return call('HGET', COUNTS, 'born')
