-- ARGV: key, token
if redis.call('HEXISTS', record_key, ARGV[2]) == 0 then return {'lost'} end
remove_intent(ARGV[2], ARGV[1])
return {'yes'}
