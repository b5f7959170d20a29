-- What wrk sends: wrk ... -s load.lua URL -- FOLDER CONTENT_TYPE: the bodies FOLDER/0, FOLDER/1, ... in turn.
-- At the end one line of JSON: answers, answers that were not 200, seconds, and latencies in ms.
local requests = {}
local at = 0

function init(arguments)
  while true do
    local file = io.open(arguments[1] .. "/" .. #requests, "rb")
    if not file then break end
    local body = file:read("*a")
    file:close()
    requests[#requests + 1] = wrk.format("POST", nil, { ["Content-Type"] = arguments[2] }, body)
  end
end

function request()
  at = at + 1
  return requests[(at - 1) % #requests + 1]
end

function done(summary, latency)
  local errors = summary.errors
  local lost = errors.connect + errors.read + errors.write + errors.timeout
  io.write(string.format(
    '\n{"answers": %d, "not_200": %d, "lost": %d, "seconds": %.3f, "p50_ms": %.1f, "p99_ms": %.1f}\n',
    summary.requests, errors.status, lost, summary.duration / 1e6,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
