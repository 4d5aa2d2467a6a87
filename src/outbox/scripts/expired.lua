-- The oldest intents of one shard that are older than the lease. KEYS: to kask, to redis. ARGV: lease in ms, most to list
if redis.replicate_commands then redis.replicate_commands() end
local time = redis.call('TIME')
local until_ms = time[1] * 1000 + math.floor(time[2] / 1000) - tonumber(ARGV[1])
local members = {}
for i = 1, 2 do
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[i], '-inf', string.format('%.0f', until_ms), 'LIMIT', 0, ARGV[2])) do
    members[#members + 1] = member
  end
end
return members
