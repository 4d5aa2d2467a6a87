-- ARGV: fence
local refused = fence_differs(ARGV[1])
if refused then return refused end
local record = redis.call('HMGET', record_key, 'direction', 'newest')
local value = stored()
return {'seen', record[1] or '', record[2] or '', value[1], value[2]}
