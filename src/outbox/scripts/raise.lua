-- KEYS: fence. ARGV: the fence, its version. Raised where none or an older one stands; never lowered, never replaced by an equal version.
local fence = redis.call('GET', KEYS[1])
if fence and fence ~= ARGV[1] then
  local version = string.match(fence, '^decant%-fence/1 (%d+) ')
  if not version or tonumber(version) >= tonumber(ARGV[2]) then return {'refused', fence} end
end
redis.call('SET', KEYS[1], ARGV[1])
return {'raised'}
