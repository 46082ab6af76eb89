-- For wrk: the paths of a file in rotation; prints what came back as one line of JSON.
--     wrk -s rotate.lua http://127.0.0.1:8080 -- paths.txt
local requests, at = {}, 0

function init(args)
  for path in io.lines(args[1]) do requests[#requests + 1] = wrk.format("GET", path) end
end

function request()
  at = at % #requests + 1
  return requests[at]
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '\nJSON {"requests": %d, "seconds": %f, "bytes": %d, "failed": %d, "p50_s": %f, "p99_s": %f}\n',
    summary.requests, summary.duration / 1e6, summary.bytes,
    e.connect + e.read + e.write + e.status + e.timeout, latency:percentile(50) / 1e6, latency:percentile(99) / 1e6))
end
