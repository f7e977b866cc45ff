-- Returns the time at which this queue began, which is part of its images' names; nothing if no image was announced
-- yet.
return call('HGET', COUNTS, 'born')
