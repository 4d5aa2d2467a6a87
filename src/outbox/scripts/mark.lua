-- ARGV: fence, key, token
local refused = fence_differs(ARGV[1])
if refused then return refused end
local known, of_before = record()
local direction = known[1]
if direction and direction ~= 'redis' then return {'transit'} end
-- A copy of the phase before, whose intent the server forgot, may still be on its way to Kask.
if is_quiet() and tonumber(now_ms()) < tonumber(redis.call('HGET', life_key, 'moved') or '0') then return {'transit'} end
local counted = count()
if not direction then
  if of_before then forget(ARGV[2]) end
  redis.call('HSET', record_key, 'direction', 'redis', 'generation', counted, 'newest', 'old')
end
add_intent('redis', ARGV[3], ARGV[2], 0)
return {'done', tostring(counted)}
