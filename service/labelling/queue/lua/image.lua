-- ARGV: id. Returns the name of the sample's image, also for a labelled sample whose JSON was forgotten. Returns
-- nothing if the sample is unknown or arriving, or if its image is deleted or will be soon.
local item = read(ARGV[2])
return item and item.state ~= 'arriving' and not is_gone(item) and item.image
