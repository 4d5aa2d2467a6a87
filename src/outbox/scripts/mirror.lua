-- ARGV: token, 'set' or 'delete', bytes, ttl in s (0: none)
if redis.call('HEXISTS', record_key, ARGV[1]) == 0 then return {'lost'} end
put(ARGV[2], ARGV[3], ARGV[4])
return {'yes', tostring(count())}
