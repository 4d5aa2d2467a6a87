-- ARGV: key, token. A damaged intent becomes an intent like any other, with its tries forgotten: the reaper takes it up a lease from now.
local key, token = ARGV[1], ARGV[2]
local tries = string.match(redis.call('HGET', record_key, token) or '', '^damaged (%d+)$')
if not tries then return {'lost'} end
redis.call('HDEL', damaged_key, token)
add_intent(redis.call('HGET', record_key, 'direction'), token, key, 0)
return {'yes'}
