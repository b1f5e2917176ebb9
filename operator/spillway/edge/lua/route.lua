-- Local or overflow, by what is in flight at this very moment in all workers. Envoy may ask more than
-- once for one request; the second answer is the first.

-- Prompts of the latest requests that stayed: as many as are in flight are taken for those that are.
local REMEMBERED = 512

local latest, newest = {}, 0
local last_id, last_choice = nil, "local"

local function load_of(handle, name)
  local cluster = handle:getCluster(name)
  return cluster and cluster:numRequests() + cluster:numPendingRequests() or 0
end

local function mean_prompt(count)
  local sum, seen = 0, math.min(count, #latest)
  if seen == 0 then
    return 0
  end
  for back = 0, seen - 1 do
    sum = sum + latest[(newest - back - 1) % REMEMBERED + 1]
  end
  return sum / seen
end

local function choose(handle, limit, token_limit, prompt)
  local count = load_of(handle, "local") + load_of(handle, "local_again")
    + load_of(handle, "local_last")
  if count >= limit then
    return "overflow"
  end
  -- A single prompt that is longer than the bound still has to be served by somebody.
  if token_limit >= 0 and count > 0 and count * mean_prompt(count) + prompt > token_limit then
    return "overflow"
  end
  newest = newest % REMEMBERED + 1
  latest[newest] = prompt
  return "local"
end

function envoy_on_route(handle)
  local asked = handle:headers():get("x-spillway-admit")
  local id, limit, token_limit, prompt = (asked or ""):match("^(%d+);(%d+);(-?%d+);(%d+)$")
  if not id then
    return "local"
  end
  if id ~= last_id then
    last_id = id
    last_choice = choose(handle, tonumber(limit), tonumber(token_limit), tonumber(prompt))
  end
  return last_choice
end
