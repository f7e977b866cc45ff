-- ARGV: id. Returns the name of the sample's image, also of a labelled one whose JSON is forgotten; nothing when
-- the sample is unknown, arriving, or its image is deleted or about to be.
local item = read(ARGV[2])
return item and item.state ~= 'arriving' and not is_gone(item) and item.image
