-- The way out: what leaves is paid from this worker's part of the allowance, and goes to the
-- providers in the value's order and by its fractions. Without allowance, value or provider it turns
-- back to the replicas and waits there.

-- Tokens of an answer that nobody can guess at.
local DEFAULT_OUTPUT = 1024

-- A worker that has used up its part asks for more no more often than this.
local TOP_UP_EVERY_MS = 50

local topped_up_at = 0
local spent = { version = nil, requests = 0, usd = 0 }
local credit = {}
-- Until when a provider is left alone because it was just passed over.
local resting = {}

local function cap_of(value)
  if value.share and is_number(value.share.requests) then
    return value.share.requests, value.share.usd
  end
  return 0, 0
end

local function count_from_zero(value)
  if spent.version ~= value.version then
    spent = { version = value.version, requests = 0, usd = 0 }
  end
end

local function report()
  local version, cap = -1, 0
  if held then
    count_from_zero(held)
    version, cap = held.version, (cap_of(held))
  end
  return string.format(
    '{"gateway":"%s","worker":"%s","version":%d,"cap":%d,"used":%d,"usedUsd":%.6f}',
    CONFIG.gateway, IDENTITY, version, cap, spent.requests, math.max(0, spent.usd))
end

local function terms_of(value, name)
  for _, terms in ipairs(value.terms.providers or {}) do
    if terms.name == name then
      return terms
    end
  end
  return nil
end

local function usd(terms, prompt, output)
  if not terms then
    return 0
  end
  return (prompt * terms.inputUsdPerMillion + output * terms.outputUsdPerMillion) / 1e6
end

local function can_take(value, name, prompt, now)
  if not CONFIG.providers[name] or (resting[name] or 0) > now then
    return false
  end
  local terms = terms_of(value, name)
  return terms ~= nil and not (terms.maxContextTokens and prompt > terms.maxContextTokens)
end

-- The provider that is furthest behind its fraction; while the fractions are still 0, the first.
local function choose(value, prompt, now)
  local best, most = nil, nil
  for _, share in ipairs(value.providers) do
    local name = share.name
    credit[name] = (credit[name] or 0) + share.fraction
    if can_take(value, name, prompt, now) and (not most or credit[name] > most) then
      best, most = name, credit[name]
    end
  end
  if best then
    credit[best] = credit[best] - value.fraction
  end
  return best
end

local function skipped(value, prompt, now)
  local names = {}
  for name in pairs(CONFIG.providers) do
    if not can_take(value, name, prompt, now) then
      names[#names + 1] = name
    end
  end
  return "," .. table.concat(names, ",") .. ","
end

local function note(handle, name, value)
  handle:streamInfo():dynamicMetadata():set("spillway", name, value)
end

local function affordable(value, cost)
  count_from_zero(value)
  local requests, dollars = cap_of(value)
  return spent.requests + 1 <= requests and spent.usd + cost <= dollars + 1e-9
end

-- The dearest of those that it may end at: a provider that fails hands on to the next.
local function dearest(value, prompt, output, now)
  local most = 0
  for _, share in ipairs(value.providers) do
    if can_take(value, share.name, prompt, now) then
      most = math.max(most, usd(terms_of(value, share.name), prompt, output))
    end
  end
  return most
end

-- Name of who is paid and US dollars at most; nil where this worker may pay nobody now.
local function buy(value, prompt, output, now)
  if not value then
    return nil
  end
  local cost = dearest(value, prompt, output, now)
  if affordable(value, cost) then
    return choose(value, prompt, now), cost
  end
  return nil
end

-- Whether the operator may have more for this worker than it was dealt so far.
local function may_get_more(value, now)
  return value and now - topped_up_at >= TOP_UP_EVERY_MS
    and spent.requests + 1 > cap_of(value) and cap_of(value) < value.allowance.requests
end

function envoy_on_request(handle)
  local now = handle:timestamp()
  refresh(handle, now, report)
  -- After that: Envoy takes an object back whenever the script waits.
  local headers = handle:headers()
  local prompt = tonumber(headers:get("x-spillway-tokens")) or 0
  local output = tonumber(headers:get("x-spillway-output-tokens")) or DEFAULT_OUTPUT
  local value = held_value(now)
  local name, cost = buy(value, prompt, output, now)
  if not name and may_get_more(value, now) then
    topped_up_at = now
    refresh(handle, now, report, true)
    headers = handle:headers()
    value = held_value(now)
    name, cost = buy(value, prompt, output, now)
  end
  if name then
    spent.requests, spent.usd = spent.requests + 1, spent.usd + cost
    note(handle, "reserved", cost)
    note(handle, "version", value.version)
    headers:replace("x-spillway-skip", skipped(value, prompt, now))
  end
  note(handle, "asked", name or "local")
  note(handle, "micro_usd", 0)
  note(handle, "paid_by", "none")
  headers:replace("x-spillway-to", name or "local")
  handle:clearRouteCache()
end

local function settle(version, reserved, cost, requests)
  -- What an older version reserved is of no account to this one.
  if spent.version == version then
    spent.usd = spent.usd - reserved + cost
    spent.requests = spent.requests - requests
  end
end

function envoy_on_response(handle)
  local noted = handle:streamInfo():dynamicMetadata():get("spillway") or {}
  if not noted.reserved then
    return
  end
  local headers = handle:headers()
  local who = headers:get("x-spillway-served-by") or "local"
  if who ~= noted.asked then
    resting[noted.asked] = handle:timestamp() + 1000
  end
  if who == "local" or headers:get(":status") ~= "200" then
    settle(noted.version, noted.reserved, 0, 1)
    return
  end
  note(handle, "paid_by", who)
  note(handle, "micro_usd", math.floor(noted.reserved * 1e6 + 0.5))
  local usage = new_usage()
  for chunk in handle:bodyChunks() do
    local length = chunk:length()
    if length > 0 then
      add_chunk(usage, chunk:getBytes(0, length), 0)
    end
  end
  local prompt, completion = counted(usage)
  if prompt and held then
    local cost = usd(terms_of(held, who), prompt, completion or 0)
    settle(noted.version, noted.reserved, cost, 0)
    note(handle, "micro_usd", math.floor(cost * 1e6 + 0.5))
  end
end
