-- ARGV: fence, key, token
local refused = fence_differs(ARGV[1])
if refused then return refused end
local key, token = ARGV[2], ARGV[3]
local known, of_before = record()
local direction = known[1]
if direction and direction ~= 'kask' then return {'transit'} end
-- A remembered delete is a miss, whatever a writer past decant has put there since.
if known[3] == 'delete' then return {'absent', ''} end
local value = stored()
if value[1] ~= 'body' then return value end
if is_quiet() or suspect and not direction then
  return {'shown', value[2], suspect and not direction and 1 or 0}
end
local counted = count()
local generation = known[2] or tostring(counted)
if not direction then
  if of_before then forget(key) end
  redis.call('HSET', record_key, 'direction', 'kask', 'generation', generation, 'newest', 'old')
end
add_intent('kask', token, key, 0)
return {'body', value[2], generation, tostring(counted)}
