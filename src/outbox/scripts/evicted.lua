-- How many keys this Redis has evicted since kask-first began. Redis forgets its own count when it restarts, so what was seen last of each
-- process is summed up. KEYS: life. ARGV: the life that the caller was accepted in
if redis.replicate_commands then redis.replicate_commands() end
if redis.call('HGET', KEYS[1], 'now') ~= ARGV[1] then return redis.error_reply('LIFE this server is to be compared first with what was seen of the one before') end
local count = tonumber(string.match(redis.call('INFO', 'stats'), 'evicted_keys:(%d+)') or '0')
local told = redis.call('HMGET', KEYS[1], 'now', 'evicted', 'evicted_life', 'evicted_seen')
local sum, seen = tonumber(told[2] or '0'), tonumber(told[4] or '0')
if told[3] ~= told[1] or count < seen then seen = 0 end
if told[3] == told[1] and count == seen then return {'evicted', tostring(sum)} end
-- Always taken; and after it a full Redis takes what follows.
redis.call('HDEL', KEYS[1], '')
redis.call('HSET', KEYS[1], 'evicted', string.format('%.0f', sum + count - seen), 'evicted_life', told[1] or '', 'evicted_seen', string.format('%.0f', count))
return {'evicted', string.format('%.0f', sum + count - seen)}
