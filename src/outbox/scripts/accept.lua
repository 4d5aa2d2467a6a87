-- An operator accepts that the shard lost writes. KEYS: life, generation, fence. ARGV: who, when and why, for show
if redis.replicate_commands then redis.replicate_commands() end
local life = redis.call('HMGET', KEYS[1], 'suspect', 'quiet')
if not life[1] then return {'none'} end
local time = redis.call('TIME')
local left = tonumber(life[2] or '0') - (time[1] * 1000 + math.floor(time[2] / 1000))
if left > 0 then return {'early', string.format('%.0f', left)} end
redis.call('HDEL', KEYS[1], 'suspect')
redis.call('HSET', KEYS[1], 'accepted', ARGV[1])
local phase, rule = string.match(redis.call('GET', KEYS[3]) or '', '^decant%-fence/1 %d+ (%S+) %S+ %S+ %S+(.*)$')
-- Accepted or not, a mirror that lacks writes is no way back; also where it is one only of the keys that are ahead.
if phase == 'redis-standby' or phase == 'kask-only' or phase == 'kask-first' and rule ~= '' then redis.call('HSET', KEYS[1], 'mirror', string.format('%d%03d', time[1], math.floor(time[2] / 1000))) end
return {'accepted', tostring(redis.call('INCR', KEYS[2]))}
