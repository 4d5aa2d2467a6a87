-- ARGV: key, the claimer's token, lease in ms, expired tokens...
local key, token, lease = ARGV[1], ARGV[2], tonumber(ARGV[3])
if is_quiet() then return {'nothing'} end
local known, of_before = record()
if of_before then
  forget(key)
  return {'nothing'}
end
local now, tries, claimed = tonumber(now_ms()), 0, false
for i = 4, #ARGV - 1 do
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
local counted = tostring(count())
add_intent(known[1], token, key, tries)
if known[1] == 'redis' then return {'redis', counted} end
local value = stored()
return {'kask', counted, known[2], known[3], value[1], value[2]}
