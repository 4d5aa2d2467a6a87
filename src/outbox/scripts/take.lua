-- ARGV: fence, key, token
local refused = fence_differs(ARGV[1])
if refused then return refused end
local key, token = ARGV[2], ARGV[3]
local record = redis.call('HMGET', record_key, 'direction', 'generation', 'newest')
local direction = record[1]
if direction and direction ~= 'kask' then return {'transit'} end
-- A remembered delete is a miss, whatever a writer past decant has put there since.
if record[3] == 'delete' then return {'absent', ''} end
local value = stored()
if value[1] ~= 'body' then return value end
local generation
if direction then
  generation = record[2]
else
  generation = tostring(redis.call('INCR', generation_key))
  redis.call('HSET', record_key, 'direction', 'kask', 'generation', generation, 'newest', 'old')
end
add_intent('kask', token, key, 0)
return {'body', value[2], generation}
