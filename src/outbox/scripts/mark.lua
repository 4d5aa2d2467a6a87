-- ARGV: fence, key, token
local refused = fence_differs(ARGV[1])
if refused then return refused end
local direction = redis.call('HGET', record_key, 'direction')
if direction and direction ~= 'redis' then return {'transit'} end
if not direction then
  local generation = redis.call('INCR', generation_key)
  redis.call('HSET', record_key, 'direction', 'redis', 'generation', generation, 'newest', 'old')
end
add_intent('redis', ARGV[3], ARGV[2], 0)
return {'done'}
