-- ARGV: key, token, generation that the copier has copied
local key, token = ARGV[1], ARGV[2]
if redis.call('HEXISTS', record_key, token) == 0 then return {'lost'} end
local record = redis.call('HMGET', record_key, 'generation', 'newest')
if record[1] == ARGV[3] or record[2] == 'old' then return {'gone', remove_intent(token, key)} end
local value = stored()
return {'newer', record[1], record[2], value[1], value[2]}
