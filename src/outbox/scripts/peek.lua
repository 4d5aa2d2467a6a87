-- Everything one shard knows of a key, changing nothing. ARGV: most bytes of the value
local kind = redis.call('TYPE', value_key)['ok']
local length, value = 0, ''
if kind == 'string' then
  length = redis.call('STRLEN', value_key)
  value = redis.call('GETRANGE', value_key, 0, tonumber(ARGV[1]) - 1)
end
local fields, given_up = redis.call('HGETALL', record_key), {}
for i = 1, #fields, 2 do
  if string.match(fields[i + 1], '^damaged ') then
    given_up[#given_up + 1] = fields[i]
    given_up[#given_up + 1] = redis.call('HGET', damaged_key, fields[i]) or ''
  end
end
return {kind, redis.call('PTTL', value_key), length, value, fields, now_ms(), given_up}
