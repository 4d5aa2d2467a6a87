-- KEYS: fence, generation, life. ARGV: the fence, its version, lease in ms, 'moving' or 'settled'; the life. Raised where none or an older one stands; never lowered, never replaced by an equal version.
if redis.replicate_commands then redis.replicate_commands() end
-- Nothing is counted before the server is compared: it would hide what is missing.
if redis.call('HGET', KEYS[3], 'now') ~= ARGV[5] then return redis.error_reply('LIFE this server is to be compared first with what was seen of the one before') end
local fence = redis.call('GET', KEYS[1])
if fence == ARGV[1] then return {'raised', '0'} end
if fence then
  local version = string.match(fence, '^decant%-fence/1 (%d+) ')
  if not version or tonumber(version) >= tonumber(ARGV[2]) then return {'refused', fence} end
end
redis.call('SET', KEYS[1], ARGV[1])
local count = redis.call('INCR', KEYS[2])
-- Until then what was begun under the fence before can arrive in Kask. Of a move that has settled nothing is left to arrive: its intents
-- were gone before the server forgot it. But where an older fence stands, the server has forgotten the move itself, and who missed it
-- may have begun something since.
if fence or ARGV[4] ~= 'settled' then
  local time = redis.call('TIME')
  redis.call('HSET', KEYS[3], 'moved', string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[3])))
end
-- A seventh word is a rule: keys that are one phase ahead. Whether the phase holds for all keys, or, as the one after `earlier`, for some.
local function has(text, phase, earlier)
  local stands, rule = string.match(text or '', '^decant%-fence/1 %d+ (%S+) %S+ %S+ %S+(.*)$')
  return stands == phase or stands == earlier and rule ~= ''
end
-- Redis is written first again: a mirror that lost writes is none any more.
if not has(ARGV[1], 'redis-standby', 'kask-first') and not has(ARGV[1], 'kask-only') then redis.call('HDEL', KEYS[3], 'mirror') end
-- From here on what Redis evicts would be missing on the way back: see evicted.lua.
if has(ARGV[1], 'kask-first', 'dual-write') and not has(fence, 'kask-first', 'dual-write') and not has(fence, 'redis-standby') then
  local evicted = string.match(redis.call('INFO', 'stats'), 'evicted_keys:(%d+)') or '0'
  redis.call('HSET', KEYS[3], 'evicted', '0', 'evicted_life', ARGV[5], 'evicted_seen', evicted)
end
return {'raised', tostring(count)}
