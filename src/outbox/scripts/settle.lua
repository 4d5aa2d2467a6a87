-- ARGV: key, token, generation that the copier has copied
local key, token = ARGV[1], ARGV[2]
local known, of_before = record()
if of_before or redis.call('HEXISTS', record_key, token) == 0 then return {'lost'} end
-- An older copy whose intent the server forgot may still be on its way to Kask: the reaper copies once more when it has arrived.
if is_quiet() then return {'kept'} end
if known[2] == ARGV[3] or known[3] == 'old' then return {'gone', remove_intent(token, key)} end
local value = stored()
return {'newer', known[2], known[3], value[1], value[2]}
