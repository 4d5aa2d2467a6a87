-- Everything one shard knows of a key, changing nothing. ARGV: most bytes of the value
local kind = redis.call('TYPE', value_key)['ok']
local length, value = 0, ''
if kind == 'string' then
  length = redis.call('STRLEN', value_key)
  value = redis.call('GETRANGE', value_key, 0, tonumber(ARGV[1]) - 1)
end
return {kind, redis.call('PTTL', value_key), length, value, redis.call('HGETALL', record_key), now_ms()}
