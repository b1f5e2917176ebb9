-- The way in: says what a request may do (stay, or leave when the replicas are full) and what it
-- would take up there. Where it goes is decided a moment later, when its route is chosen (route.lua),
-- by what is in flight then.

-- A client may not speak for us.
local OURS = { "x-spillway-admit", "x-spillway-tokens", "x-spillway-output-tokens", "x-spillway-to",
  "x-spillway-skip" }
-- Characters a token of English JSON; replaced by what engines count as soon as one has answered.
local FIRST_BYTES_PER_TOKEN = 4
-- Most of the requests that leave at this share of the bound are those whose GPU time is the
-- cheapest to buy; the others leave at the bound itself.
local EARLY_SHARE = 0.9
-- Weight of one answer in running means: the last hundred count.
local ONE_IN = 0.01
local KEYS_EVERY_MS = 10000

local bytes_per_token = FIRST_BYTES_PER_TOKEN
local mean_output = 256
local cheap_below = nil

-- Requests of this worker that are open, by their handle. Envoy lets go of a handle when its stream
-- ends, however it ends, so an entry of a client that hung up goes with the next collection.
local open = setmetatable({}, { __mode = "k" })
local by_id = setmetatable({}, { __mode = "v" })
local last_id = 0

local keys, keys_at = nil, nil

local function read_keys(now)
  if keys_at and now - keys_at < KEYS_EVERY_MS then
    return
  end
  keys_at = now
  local file = io.open(CONFIG.stays.keys_file, "r")
  -- A file that can't be read marks every request: what it would say is not known.
  keys = file and {}
  if file then
    for line in file:lines() do
      local key = line:match("^%s*(%S+)")
      if key and key:sub(1, 1) ~= "#" then
        keys[key] = true
      end
    end
    file:close()
  end
end

local function has_marked_key(headers, now)
  if not CONFIG.stays.keys_file then
    return false
  end
  read_keys(now)
  if not keys then
    return true
  end
  for _, name in ipairs({ "authorization", "x-api-key", "api-key" }) do
    local got = headers:get(name)
    for word in (got or ""):gmatch("[^%s,]+") do
      if keys[word] then
        return true
      end
    end
  end
  return false
end

local function is_marked(headers, now)
  for _, mark in ipairs(CONFIG.stays.headers) do
    local got = headers:get(mark.name)
    if got then
      if #mark.values == 0 then
        return true
      end
      for word in got:lower():gmatch("[^,]+") do
        local trimmed = word:match("^%s*(.-)%s*$")
        for _, value in ipairs(mark.values) do
          if trimmed == value:lower() then
            return true
          end
        end
      end
    end
  end
  return has_marked_key(headers, now)
end

-- Whether a body may leave: a JSON object of a model that is allowed to. What can't be read stays.
local function model_may_leave(fields)
  local model = fields.model
  if not model or model.twice or type(model.value) ~= "string" or model.value:find("\\", 1, true) then
    return false
  end
  if CONFIG.stays.models[model.value] then
    return false
  end
  return not CONFIG.models or CONFIG.models[model.value] == true
end

local function expected_output(fields)
  for _, name in ipairs({ "max_completion_tokens", "max_tokens" }) do
    local field = fields[name]
    if field and is_number(field.value) then
      return math.min(mean_output, field.value)
    end
  end
  return mean_output
end

-- US dollars that a second of GPU time costs when this request buys it from the first provider.
local function usd_per_gpu_second(value, prompt, output)
  local gpu = value.terms.gpuSeconds
  local first = value.terms.providers and value.terms.providers[1]
  if not gpu or not first then
    return nil
  end
  local seconds = gpu.perPromptToken * prompt + gpu.perOutputToken * output
  if seconds <= 0 then
    return nil
  end
  return (prompt * first.inputUsdPerMillion + output * first.outputUsdPerMillion) / 1e6 / seconds
end

-- Whether it is of the cheapest ones, as many as have to leave: the threshold moves up or down with
-- each request until that share is below it.
local function is_cheap(value, prompt, output)
  local score = usd_per_gpu_second(value, prompt, output)
  if not score or value.fraction <= 0 then
    return false
  end
  cheap_below = cheap_below or score
  local cheap = score <= cheap_below
  local step = 0.05 * math.max(cheap_below, score)
  cheap_below = cheap_below + step * (value.fraction - (cheap and 1 or 0))
  return cheap
end

local function fits_somewhere(value, prompt)
  local terms = value.terms.providers
  if not terms or #terms == 0 then
    return true
  end
  for _, provider in ipairs(terms) do
    if not provider.maxContextTokens or prompt <= provider.maxContextTokens then
      return true
    end
  end
  return false
end

local function in_flight()
  local count = 0
  for _, record in pairs(open) do
    if not record.ended and not record.away then
      count = count + 1
    end
  end
  return count
end

local function report()
  return string.format('{"gateway":"%s","worker":"%s","inFlight":%d}', CONFIG.gateway, IDENTITY,
    in_flight())
end

-- This gateway's part of the bound: the operator's, else an equal one.
local function share_of(value)
  local admit = value.admit
  if value.share and value.share.inFlight then
    return value.share.inFlight, value.share.promptTokens
  end
  local tokens = admit.promptTokens and math.floor(admit.promptTokens / CONFIG.gateways)
  return math.floor(admit.inFlight / CONFIG.gateways), tokens
end

-- "" for a request that stays whatever comes; else what route.lua has to hold it against.
local function admission(id, value, prompt, output)
  if not value or not value.admit or value.allowance.requests <= 0 or #value.providers == 0 then
    return ""
  end
  if not fits_somewhere(value, prompt) then
    return ""
  end
  local limit, tokens = share_of(value)
  local early = is_cheap(value, prompt, output) and math.floor(limit * EARLY_SHARE) or limit
  return string.format("%d;%d;%d;%d", id, early, tokens or -1, prompt)
end

local function note(handle, name, value)
  handle:streamInfo():dynamicMetadata():set("spillway", name, value)
end

function envoy_on_request(handle)
  local now = handle:timestamp()
  local headers = handle:headers()
  for _, name in ipairs(OURS) do
    headers:remove(name)
  end
  last_id = last_id + 1
  local record = { at = now, prompt = 0, size = 0 }
  open[handle], by_id[last_id] = record, record
  note(handle, "id", last_id)
  local path = headers:get(":path") or ""
  if headers:get(":method") ~= "POST" or not CONFIG.paths[path:match("^[^?]*")] then
    handle:clearRouteCache()
    return
  end
  note(handle, "counts", true)
  local id = last_id
  -- The whole of it first: what streams past while the script asks the operator can't be read again.
  local body = handle:body(true)
  local text = body:length() > 0 and body:getBytes(0, body:length()) or ""
  refresh(handle, now, report)
  -- Envoy takes an object back whenever the script waits.
  headers = handle:headers()
  local stays = is_marked(headers, now)
  local encoding = headers:get("content-encoding")
  local fields = top_level(text)
  record.size = #text
  record.prompt = math.ceil(#text / bytes_per_token)
  local output = expected_output(fields)
  stays = stays or (encoding and encoding ~= "identity") or not model_may_leave(fields)
  local choice = ""
  if not stays then
    choice = admission(id, held_value(handle:timestamp()), record.prompt, output)
  end
  if choice ~= "" then
    headers = handle:headers()
    headers:add("x-spillway-admit", choice)
    headers:add("x-spillway-tokens", tostring(record.prompt))
    headers:add("x-spillway-output-tokens", tostring(math.ceil(output)))
  end
  handle:clearRouteCache()
end

local function learn(record, prompt, completion)
  if prompt and prompt > 0 and record.size > 0 then
    bytes_per_token = bytes_per_token + ONE_IN * (record.size / prompt - bytes_per_token)
  end
  if completion then
    mean_output = mean_output + ONE_IN * (completion - mean_output)
  end
end

function envoy_on_response(handle)
  local noted = handle:streamInfo():dynamicMetadata():get("spillway") or {}
  local record = by_id[noted.id or 0]
  if not record or not noted.counts then
    return
  end
  local headers = handle:headers()
  local who = headers:get("x-spillway-served-by")
  if not who then
    who = "local"
    headers:add("x-spillway-served-by", who)
  end
  record.away = who ~= "local"
  note(handle, "destination", record.away and "cloud" or "local")
  note(handle, "provider", record.away and who or "none")
  note(handle, "prompt_tokens", record.prompt)
  note(handle, "completion_tokens", 0)
  local fine = headers:get(":status") == "200"
  local usage = new_usage()
  for chunk in handle:bodyChunks() do
    local length = chunk:length()
    if length > 0 then
      if fine and not usage.first_at then
        note(handle, "ttft_ms", math.max(1, handle:timestamp() - record.at))
      end
      add_chunk(usage, chunk:getBytes(0, length), handle:timestamp())
    end
  end
  record.ended = true
  if not fine then
    note(handle, "prompt_tokens", 0)
    return
  end
  local prompt, completion = counted(usage)
  note(handle, "prompt_tokens", prompt or record.prompt)
  note(handle, "completion_tokens", completion or 0)
  if usage.events > 2 then
    note(handle, "tpot_ms", math.max(1, (usage.last_at - usage.first_at) / (usage.events - 1)))
  end
  learn(record, prompt, completion)
end
