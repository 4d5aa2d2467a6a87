-- ARGV: key, the claimer's token, lease in ms, expired tokens...
local key, token, lease = ARGV[1], ARGV[2], tonumber(ARGV[3])
local now, tries, claimed = tonumber(now_ms()), 0, false
for i = 4, #ARGV do
  local stamp, tried = string.match(redis.call('HGET', record_key, ARGV[i]) or '', '^(%d+) (%d+)$')
  if stamp and tonumber(stamp) <= now - lease then
    -- The old token goes before the new one comes: a full Redis can still drain.
    redis.call('HDEL', record_key, ARGV[i])
    redis.call('ZREM', to_kask, ARGV[i] .. key)
    redis.call('ZREM', to_redis, ARGV[i] .. key)
    tries = math.max(tries, tonumber(tried))
    claimed = true
  end
end
if not claimed then return {'nothing'} end
local record = redis.call('HMGET', record_key, 'direction', 'generation', 'newest')
add_intent(record[1], token, key, tries)
if record[1] == 'redis' then return {'redis'} end
local value = stored()
return {'kask', record[2], record[3], value[1], value[2]}
