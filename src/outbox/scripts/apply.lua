-- ARGV: fence, key, token ('' writes no intent), newest, 'set' or 'delete', bytes, ttl in s (0: none), '1' only if absent
local refused = fence_differs(ARGV[1])
if refused then return refused end
local key, token = ARGV[2], ARGV[3]
local known, of_before = record()
local direction = known[1]
if direction and (direction ~= 'kask' or token == '') then return {'transit'} end
if ARGV[8] == '1' and redis.call('EXISTS', value_key) == 1 then return {'exists'} end

-- The first write decides: a full Redis refuses the SET, and then nothing has been done; after it, the rest is always taken.
put(ARGV[5], ARGV[6], ARGV[7])
if of_before then forget(key) end
local generation = count()
if token == '' then return {'done', tostring(generation), 0} end
redis.call('HSET', record_key, 'direction', 'kask', 'generation', generation, 'newest', ARGV[4])
add_intent('kask', token, key, 0)
return {'done', tostring(generation), (direction or of_before) and 1 or 0}
