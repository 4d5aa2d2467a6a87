-- An operator accepts that the shard lost writes. KEYS: life, generation. ARGV: who, when and why, for show
if redis.replicate_commands then redis.replicate_commands() end
local life = redis.call('HMGET', KEYS[1], 'suspect', 'quiet')
if not life[1] then return {'none'} end
local time = redis.call('TIME')
local left = tonumber(life[2] or '0') - (time[1] * 1000 + math.floor(time[2] / 1000))
if left > 0 then return {'early', string.format('%.0f', left)} end
redis.call('HDEL', KEYS[1], 'suspect')
redis.call('HSET', KEYS[1], 'accepted', ARGV[1])
return {'accepted', tostring(redis.call('INCR', KEYS[2]))}
