-- Shared by every script of one key. The record of a key is a hash: direction, generation, newest, and one field an intent
-- (its owner token) holding "<stamp in ms> <tries>", or "damaged <tries>". It lives as long as the key has an intent.
if redis.replicate_commands then redis.replicate_commands() end
local value_key, record_key, to_kask, to_redis, damaged_key, fence_key, generation_key, life_key = unpack(KEYS)
local RECORD_FIELDS = 3

-- Who was accepted in one life of the shard says nothing in the next: it may have begun without the latest writes, which adopt.lua finds out.
local life = redis.call('HMGET', life_key, 'now', 'quiet', 'before', 'suspect')
if life[1] ~= ARGV[#ARGV] then return redis.error_reply('LIFE this server is to be compared first with what was seen of the one before') end
local suspect, before = life[4], tonumber(life[3] or '0')

local function fence_differs(believed)
  local fence = redis.call('GET', fence_key)
  if fence ~= believed then return {'fence', fence or ''} end
end

local function now_ms()
  local time = redis.call('TIME')
  return string.format('%d%03d', time[1], math.floor(time[2] / 1000))
end

-- For a lease after a server was accepted, or found to have lost writes, nothing is copied from what it held before: every decant that is
-- there has compared by then, and whatever was on its way to Kask has arrived.
local function is_quiet()
  return life[2] and tonumber(now_ms()) < tonumber(life[2])
end

-- {direction, generation, newest}, and whether it is not to be believed: a record to Kask of before a loss tells of a value that Kask may
-- hold a newer one of. What it says is then as if it were not there.
local function record()
  local told = redis.call('HMGET', record_key, 'direction', 'generation', 'newest')
  local of_before = told[1] == 'kask' and (tonumber(told[2]) <= before or suspect and told[3] == 'old')
  if of_before then return {false, false, false}, true end
  return told, false
end

-- Counts writes of values, intents and fences: a server whose count is lower than what was seen has lost some.
local function count()
  return redis.call('INCR', generation_key)
end

local function outbox_of(direction)
  if direction == 'kask' then return to_kask end
  return to_redis
end

local function add_intent(direction, token, key, tries)
  local now = now_ms()
  redis.call('HSET', record_key, token, now .. ' ' .. tries)
  redis.call('ZADD', outbox_of(direction), now, token .. key)
end

-- Sets the value ('set', bytes, ttl in s or '0' for none) or deletes it ('delete').
local function put(verb, bytes, ttl)
  if verb == 'delete' then
    redis.call('DEL', value_key)
  elseif ttl == '0' then
    redis.call('SET', value_key, bytes)
  else
    redis.call('SET', value_key, bytes, 'EX', ttl)
  end
end

-- Removes an intent, and the record with the last one; answers whether it was the last.
local function remove_intent(token, key)
  redis.call('HDEL', record_key, token)
  redis.call('ZREM', to_kask, token .. key)
  redis.call('ZREM', to_redis, token .. key)
  redis.call('HDEL', damaged_key, token)
  if redis.call('HLEN', record_key) > RECORD_FIELDS then return 0 end
  redis.call('DEL', record_key)
  return 1
end

-- What Kask on Cassandra can keep, and a little for how Redis's side writes it. What is larger was written past decant: it can be
-- carried nowhere, and is not read.
local VALUE_BYTES_MAX = 16 * 1024 * 1024 + 64 * 1024

-- Forgets a record that is not to be believed, with all its intents.
local function forget(key)
  for _, field in ipairs(redis.call('HKEYS', record_key)) do
    redis.call('ZREM', to_kask, field .. key)
    redis.call('HDEL', damaged_key, field)
  end
  redis.call('DEL', record_key)
end

-- The value as {'body', bytes}, {'absent', ''}, {'type', name} or {'large', ''}.
local function stored()
  local kind = redis.call('TYPE', value_key)['ok']
  if kind == 'none' then return {'absent', ''} end
  if kind ~= 'string' then return {'type', kind} end
  if redis.call('STRLEN', value_key) > VALUE_BYTES_MAX then return {'large', ''} end
  return {'body', redis.call('GET', value_key)}
end
