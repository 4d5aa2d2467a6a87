-- ARGV: key, token. Forgets a damaged intent: whatever the tiers hold for its key stays as it is.
local key, token = ARGV[1], ARGV[2]
if not string.match(redis.call('HGET', record_key, token) or '', '^damaged (%d+)$') then return {'lost'} end
remove_intent(token, key)
return {'yes'}
