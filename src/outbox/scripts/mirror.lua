-- ARGV: token, 'set' or 'delete', bytes, ttl in s (0: none)
if redis.call('HEXISTS', record_key, ARGV[1]) == 0 then return {'lost'} end
if ARGV[2] == 'delete' then
  redis.call('DEL', value_key)
elseif ARGV[4] == '0' then
  redis.call('SET', value_key, ARGV[3])
else
  redis.call('SET', value_key, ARGV[3], 'EX', ARGV[4])
end
return {'yes'}
