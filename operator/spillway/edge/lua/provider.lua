-- One provider: the request in its words and with its key, and a pause after it has said that it is
-- full or has failed. While it pauses, the request goes on to the next one at once.

local REFUSED_MS = 1000
local FAILED_MS = 5000
local LOCKED_MS = 30000
local LONGEST_MS = 600000
local FAILURES = 3
local KEY_EVERY_MS = 10000
-- What a client says to its gateway is not the provider's business.
local PRIVATE = { "authorization", "x-api-key", "api-key", "cookie", "x-forwarded-for", "x-request-id",
  "x-envoy-external-address", "x-spillway-admit", "x-spillway-tokens", "x-spillway-output-tokens",
  "x-spillway-to", "x-spillway-skip" }

local paused_until, failures = 0, 0
local key, key_at = nil, nil

local function read_key(now)
  if key_at and now - key_at < KEY_EVERY_MS then
    return key
  end
  key_at = now
  local file = io.open(CONFIG.key_file, "r")
  key = file and file:read("*l")
  if file then
    file:close()
  end
  key = key and key:match("^%s*(%S+)")
  return key
end

local function pause(now, milliseconds)
  paused_until = math.max(paused_until, now + math.min(milliseconds, LONGEST_MS))
end

function envoy_on_request(handle)
  local now = handle:timestamp()
  local headers = handle:headers()
  local skip = headers:get("x-spillway-skip") or ""
  local token = CONFIG.key_file and read_key(now)
  if now < paused_until or skip:find("," .. CONFIG.name .. ",", 1, true)
    or (CONFIG.key_file and not token) then
    handle:respond({ [":status"] = "429", ["x-spillway-paused"] = CONFIG.name }, "")
    return
  end
  for _, name in ipairs(PRIVATE) do
    headers:remove(name)
  end
  for _, name in ipairs(CONFIG.private_headers) do
    headers:remove(name)
  end
  if token then
    headers:replace(CONFIG.key_header, CONFIG.key_prefix .. token)
  end
  headers:replace(":authority", CONFIG.authority)
  local path = headers:get(":path") or "/"
  headers:replace(":path", CONFIG.path_prefix .. path:gsub("^/v1", ""))
  if CONFIG.model then
    local body = handle:body(true)
    local text = body:length() > 0 and body:getBytes(0, body:length()) or ""
    local model = top_level(text).model
    if model and model.from then
      body:setBytes(text:sub(1, model.from - 1) .. CONFIG.model .. text:sub(model.to + 1))
      handle:headers():remove("content-length")
    end
  end
end

local function retry_after_ms(headers)
  local seconds = tonumber(headers:get("retry-after") or "")
  return seconds and seconds >= 0 and seconds * 1000 or REFUSED_MS
end

function envoy_on_response(handle)
  local headers = handle:headers()
  if headers:get("x-spillway-paused") then
    return
  end
  local now = handle:timestamp()
  local status = tonumber(headers:get(":status")) or 0
  headers:replace("x-spillway-served-by", CONFIG.name)
  if status == 429 then
    pause(now, retry_after_ms(headers))
  elseif status == 401 or status == 402 or status == 403 then
    pause(now, LOCKED_MS)
  elseif status >= 500 then
    failures = failures + 1
    if headers:get("retry-after") then
      pause(now, retry_after_ms(headers))
    elseif failures >= FAILURES then
      pause(now, FAILED_MS)
    end
  else
    failures = 0
  end
end
