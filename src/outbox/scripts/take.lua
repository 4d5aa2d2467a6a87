-- ARGV: fence, key, token
local refused = fence_differs(ARGV[1])
if refused then return refused end
local key, token = ARGV[2], ARGV[3]
local direction = redis.call('HGET', record_key, 'direction')
if direction and direction ~= 'kask' then return {'transit'} end
local value = stored()
if value[1] ~= 'body' then return value end
local generation
if direction then
  generation = redis.call('HGET', record_key, 'generation')
else
  generation = tostring(redis.call('INCR', generation_key))
  redis.call('HSET', record_key, 'direction', 'kask', 'generation', generation, 'newest', 'old')
end
add_intent('kask', token, key, 0)
return {'body', value[2], generation}
