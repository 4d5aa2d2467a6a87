-- This decant says that it is there, and learns who else is. KEYS: members. ARGV: its name, what it says of itself, most names to keep,
-- ms without a word after which a name is dropped. Who spoke last is kept longest.
if redis.replicate_commands then redis.replicate_commands() end
local time = redis.call('TIME')
local now = string.format('%d%03d', time[1], math.floor(time[2] / 1000))
redis.call('HSET', KEYS[1], ARGV[1], now .. ' ' .. ARGV[2])
local all = redis.call('HGETALL', KEYS[1])
local known = {}
for i = 1, #all, 2 do
  local stamp = tonumber(string.match(all[i + 1], '^(%d+) ') or '0')
  if tonumber(now) - stamp > tonumber(ARGV[4]) then
    redis.call('HDEL', KEYS[1], all[i])
  else
    known[#known + 1] = {stamp, all[i], all[i + 1]}
  end
end
table.sort(known, function(a, b) return a[1] > b[1] or a[1] == b[1] and a[2] < b[2] end)
for i = #known, tonumber(ARGV[3]) + 1, -1 do
  redis.call('HDEL', KEYS[1], known[i][2])
  known[i] = nil
end
local answer = {now}
for _, one in ipairs(known) do
  answer[#answer + 1] = one[2]
  answer[#answer + 1] = one[3]
end
return answer
