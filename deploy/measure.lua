-- What wrk sends for deploy/measure.sh, and the one line it prints: MEASURED requests microseconds p50_us p99_us faults
--   wrk -s measure.lua URL/BASE/ -- METHOD KEYS BODY
-- The requests are made once, before the clock runs, so that wrk itself takes little of the machine.
local requests, at = {}, 0

function init(args)
    local method, keys, body = args[1], tonumber(args[2]), args[3]
    local headers = { ["Host"] = "127.0.0.1" }
    for key = 1, keys do
        local path = wrk.path .. "measured%3A" .. key
        requests[key] = wrk.format(method, path, headers, method == "POST" and body or nil)
    end
    -- Each thread begins elsewhere.
    at = math.random(keys)
end

function request()
    at = at % #requests + 1
    return requests[at]
end

function done(summary, latency)
    local errors = summary.errors
    local faults = errors.connect + errors.read + errors.write + errors.status + errors.timeout
    io.write(string.format("MEASURED %d %d %d %d %d\n", summary.requests, summary.duration,
        latency:percentile(50), latency:percentile(99), faults))
end
