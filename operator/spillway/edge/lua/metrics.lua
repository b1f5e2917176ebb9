-- Envoy's statistics under the names that Spillway reads.

local COUNTERS = {
  envoy_cluster_upstream_rq_total = "spillway_gateway_requests_total",
  envoy_spillway_gateway_prompt_tokens = "spillway_gateway_prompt_tokens_total",
  envoy_spillway_gateway_completion_tokens = "spillway_gateway_completion_tokens_total",
}
local GAUGES = {
  envoy_cluster_upstream_rq_active = true,
  envoy_cluster_upstream_rq_pending_active = true,
}
local HISTOGRAMS = {
  envoy_spillway_gateway_ttft_ms = "spillway_gateway_time_to_first_token_seconds",
  envoy_spillway_gateway_tpot_ms = "spillway_gateway_time_per_output_token_seconds",
}

-- What every provider has failed and the replicas get in the end has been counted when it left.
local function side_of(cluster, is_gauge)
  if cluster == "local" or cluster == "local_again" or (is_gauge and cluster == "local_last") then
    return "local"
  end
  return cluster == "paying" and "cloud" or nil
end

local function add(to, key, value)
  if not to[key] then
    to[#to + 1] = key
  end
  to[key] = (to[key] or 0) + value
end

local function labels(destination, extra)
  return string.format('namespace="%s",pool="%s",destination="%s"%s', CONFIG.namespace, CONFIG.pool,
    destination, extra or "")
end

local function rewritten(page)
  local families = {}
  local function family(name, kind)
    if not families[name] then
      families[name] = { kind = kind }
      families[#families + 1] = name
    end
    return families[name]
  end
  -- A side that has had no request yet counts zero: its first one must show as growth.
  for _, side in ipairs({ "local", "cloud" }) do
    for _, name in pairs(COUNTERS) do
      add(family(name, "counter"), name .. "{" .. labels(side) .. "}", 0)
    end
    add(family("spillway_gateway_in_flight", "gauge"),
      "spillway_gateway_in_flight{" .. labels(side) .. "}", 0)
  end
  add(family("spillway_gateway_cost_usd_total", "counter"),
    "spillway_gateway_cost_usd_total{" .. labels("cloud") .. "}", 0)
  for line in page:gmatch("[^\n]+") do
    local name, inside, value = line:match("^([%w_:]+){(.*)} (%S+)$")
    value = tonumber(value or "")
    if name and value then
      local base, part = name:match("^(.-)_(bucket)$")
      if not base then
        base, part = name:match("^(.-)_(sum)$")
      end
      if not base then
        base, part = name:match("^(.-)_(count)$")
      end
      local side = inside:match('destination="(%a+)"')
        or side_of(inside:match('envoy_cluster_name="([^"]+)"'), GAUGES[name])
      if COUNTERS[name] and side then
        local to = COUNTERS[name]
        add(family(to, "counter"), to .. "{" .. labels(side) .. "}", value)
      elseif GAUGES[name] and side then
        local to = "spillway_gateway_in_flight"
        add(family(to, "gauge"), to .. "{" .. labels(side) .. "}", value)
      elseif name == "envoy_spillway_gateway_micro_usd" then
        local to = "spillway_gateway_cost_usd_total"
        local provider = inside:match('provider="([^"]+)"') or "none"
        if provider ~= "none" then
          add(family(to, "counter"),
            to .. "{" .. labels("cloud", ',provider="' .. provider .. '"') .. "}", value / 1e6)
        end
      elseif base and HISTOGRAMS[base] and side then
        local to = HISTOGRAMS[base]
        local extra = ""
        local le = inside:match('le="([^"]+)"')
        if le then
          local seconds = le ~= "+Inf" and tonumber(le)
          extra = ',le="' .. (seconds and tostring(seconds / 1000) or "+Inf") .. '"'
        end
        if part == "sum" then
          value = value / 1000
        end
        add(family(to, "histogram"), to .. "_" .. part .. "{" .. labels(side, extra) .. "}", value)
      end
    end
  end
  local lines = {}
  for _, name in ipairs(families) do
    lines[#lines + 1] = "# TYPE " .. name .. " " .. families[name].kind
    for _, key in ipairs(families[name]) do
      lines[#lines + 1] = string.format("%s %.17g", key, families[name][key])
    end
  end
  return table.concat(lines, "\n") .. "\n"
end

function envoy_on_response(handle)
  local headers = handle:headers()
  if headers:get(":status") ~= "200" then
    return
  end
  local body = handle:body(true)
  local text = body:length() > 0 and body:getBytes(0, body:length()) or ""
  local page = rewritten(text)
  body:setBytes(page)
  headers = handle:headers()
  headers:replace("content-length", tostring(#page))
  headers:replace("content-type", "text/plain; version=0.0.4; charset=utf-8")
end
