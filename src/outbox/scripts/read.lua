-- ARGV: fence. Last in the answer: '1' where the shard lost writes and nothing tells that this value is newer than that.
local refused = fence_differs(ARGV[1])
if refused then return refused end
local known = record()
local value = stored()
local doubtful = suspect and not known[1] and value[1] ~= 'absent'
return {'seen', known[1] or '', known[3] or '', value[1], value[2], doubtful and 1 or 0}
