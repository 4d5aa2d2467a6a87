-- Compares what a decant has seen of a shard with what its server knows, and accepts the server.
--
-- A life is what one process of Redis does on one line of data: its id is the process's run id and when it was accepted. The lives
-- so far stand in the data itself, each with the count of writes that it began with. So a decant finds there how far the life that it
-- knew has come into this data; if that is less than it saw, or if the life is not there at all, writes are lost. Such a shard is
-- suspect from then on, until an operator accepts the loss.
-- KEYS: life, generation, fence, to kask. ARGV: member, the life the decant knew ('': none), the count it saw in it, lease in ms; the run id
if redis.replicate_commands then redis.replicate_commands() end
local life_key, generation_key, fence_key, to_kask = unpack(KEYS)
local member, known, seen, lease, run = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local LIVES_MAX = 32

local function text(number) return string.format('%.0f', number) end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local count = tonumber(redis.call('GET', generation_key) or '0')

local told, lives, losses = {}, {}, {}
local fields = redis.call('HGETALL', life_key)
for i = 1, #fields, 2 do
  local kind, id, stamp = string.match(fields[i], '^(%l+)|(.*:(%d+))$')
  local first, second = string.match(fields[i + 1], '^(%d+) ?(%d*)$')
  local entry = {id = id, stamp = tonumber(stamp), count = tonumber(first), before = tonumber(second)}
  if kind == 'life' then lives[#lives + 1] = entry
  elseif kind == 'lost' then losses[#losses + 1] = entry
  else told[fields[i]] = fields[i + 1] end
end
local function by_stamp(a, b) return a.stamp < b.stamp end
table.sort(lives, by_stamp)
table.sort(losses, by_stamp)

local function write(...)
  -- Always taken; and after it a full Redis takes what follows.
  redis.call('HDEL', life_key, '')
  redis.call('HSET', life_key, ...)
end

local function bound(list, kind)
  while #list > LIVES_MAX do redis.call('HDEL', life_key, kind .. table.remove(list, 1).id) end
end

local current = lives[#lives]
if not current or string.match(current.id, '^(.*):') ~= run then
  local stamp = math.max(now, current and current.stamp + 1 or 0)
  -- A shard that nobody has used holds nothing that could be copied too early.
  local used = current or count > 0 or redis.call('EXISTS', fence_key) == 1
  current = {id = run .. ':' .. text(stamp), stamp = stamp, count = count}
  lives[#lives + 1] = current
  write('now', current.id, 'life|' .. current.id, text(count))
  if used then write('quiet', text(now + lease)) end
  bound(lives, 'life|')
end

local reached, before = -1, current.count
for i, life in ipairs(lives) do
  if life.id == known then
    local following = lives[i + 1]
    reached = following and following.count or count
    before = following and following.count or math.max(count, seen)
  end
end
local accounted = -1
for _, loss in ipairs(losses) do
  -- Another decant saw more of a life whose loss is known: it parted from this data then, and what was written since is not to suffer.
  if loss.id == known then accounted, before = loss.count, loss.before end
end
if known ~= '' and reached < seen and accounted < seen then
  -- No count is used twice: what is written from now on is newer than all that was seen.
  count = math.max(count, seen) + 1
  write('lost|' .. known, text(seen) .. ' ' .. text(before), 'before', text(math.max(tonumber(told['before'] or '0'), before)), 'quiet', text(now + lease))
  redis.call('SET', generation_key, text(count))
  if not told['suspect'] then
    told['suspect'] = text(now) .. ' ' .. member .. ' ' .. text(reached) .. ' ' .. text(seen) .. ' ' .. redis.call('ZCARD', to_kask)
    write('suspect', told['suspect'])
  end
  if accounted < 0 then losses[#losses + 1] = {id = known, stamp = tonumber(string.match(known, ':(%d+)$')) or 0, count = seen} end
  table.sort(losses, by_stamp)
  bound(losses, 'lost|')
end
return {current.id, text(count), told['suspect'] or ''}
