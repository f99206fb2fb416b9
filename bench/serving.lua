-- wrk asks with each of the forms in turn, and counts every different answer.
local files = { FORMS }
local requests = {}
local turn = 0
local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init(args)
  bodies = {}
  for index, name in ipairs(files) do
    local file = assert(io.open(name, "rb"))
    local form = file:read("*a")
    file:close()
    local headers = { ["Content-Type"] = "multipart/form-data; boundary=b" }
    requests[index] = wrk.format("POST", nil, headers, form)
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function response(status, headers, body)
  if status == 200 then
    bodies[body] = (bodies[body] or 0) + 1
  end
end

local function quoted(text)
  return '"' .. text:gsub('[%c"\\]', function(c)
    return string.format("\\u%04x", c:byte())
  end) .. '"'
end

function done(summary, latency, rates)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  local parts = {}
  for _, thread in ipairs(threads) do
    for body, count in pairs(thread:get("bodies")) do
      table.insert(parts, quoted(body) .. ":" .. count)
    end
  end
  io.write("RESULT", string.format(
    '{"answers":%d,"microseconds":%d,"failed":%d,"p50":%d,"p99":%d,"bodies":{%s}}\n',
    summary.requests - errors.status, summary.duration, failed,
    latency:percentile(50), latency:percentile(99), table.concat(parts, ",")))
end
