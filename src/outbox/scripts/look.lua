-- What one shard's outbox holds; the members with their scores (damaged ones: inf). KEYS: to kask, to redis, damaged, fence, generation, life. ARGV: most keys to list
if redis.replicate_commands then redis.replicate_commands() end
local kask, to_redis = redis.call('ZCARD', KEYS[1]), redis.call('ZCARD', KEYS[2])
local time = redis.call('TIME')
local now = string.format('%d%03d', time[1], math.floor(time[2] / 1000))
local oldest = ''
local members = {}
for i = 1, 2 do
  local first = redis.call('ZRANGE', KEYS[i], 0, 0, 'WITHSCORES')[2]
  if first and first ~= 'inf' and (oldest == '' or tonumber(first) < tonumber(oldest)) then oldest = first end
  if kask + to_redis <= tonumber(ARGV[1]) then
    for _, field in ipairs(redis.call('ZRANGE', KEYS[i], 0, -1, 'WITHSCORES')) do members[#members + 1] = field end
  end
end
local listed = kask + to_redis <= tonumber(ARGV[1]) and 1 or 0
local life = redis.call('HMGET', KEYS[6], 'now', 'quiet', 'suspect', 'accepted', 'mirror', 'evicted')
return {redis.call('GET', KEYS[4]) or '', kask, to_redis, redis.call('HLEN', KEYS[3]), oldest, now, listed, members,
  life[1] == ARGV[2] and 1 or 0, redis.call('GET', KEYS[5]) or '0', life[2] or '0', life[3] or '', life[4] or '', life[5] or '0', life[6] or '0'}
