-- ARGV: key, token, reason (one line), tries after which the intent is damaged
local key, token = ARGV[1], ARGV[2]
local stamp, tries = string.match(redis.call('HGET', record_key, token) or '', '^(%d+) (%d+)$')
if not stamp then return {'lost'} end
tries = tonumber(tries) + 1
local direction = redis.call('HGET', record_key, 'direction')
if tries < tonumber(ARGV[4]) then
  redis.call('HSET', record_key, token, stamp .. ' ' .. tries)
  return {'tried', tries}
end
redis.call('HSET', record_key, token, 'damaged ' .. tries)
-- It stays in the outbox, so that the key stays pending and moves are blocked; never again does it expire.
redis.call('ZADD', outbox_of(direction), '+inf', token .. key)
redis.call('HSET', damaged_key, token, now_ms() .. ' ' .. tries .. ' ' .. direction .. ' ' .. ARGV[3] .. '\n' .. key)
return {'damaged', tries}
