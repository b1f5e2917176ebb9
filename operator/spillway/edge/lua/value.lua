-- The operator's overflow value as this worker holds it: refreshed once a second by the request that
-- finds it old, and let go at the end of its lease. Without one everything stays local.

local ASK_EVERY_MS = 1000
local ASK_TIMEOUT_MS = 250
local MOST_ASKING = 256

-- Each worker has a Lua state of its own; the address of a table tells them apart.
local IDENTITY = CONFIG.gateway .. "/" .. tostring({}):gsub("^table: ", "")

local held = nil
local next_ask = 0
local failures = 0
local asking = 0
-- Whether the last answer was no value, and when an operator that does not answer was last noted.
local barren = false
local failed_at = 0

local function held_value(now)
  if held and now < held.ends_at then
    return held
  end
  return nil
end

local function is_number(it)
  return type(it) == "number" and it == it and it >= 0
end

-- The highest epoch wins, then the highest version; one that has ended gives way to any.
local function offer(answer, asked_at)
  local now_held = held_value(asked_at)
  if not (is_number(answer.epoch) and is_number(answer.version)) then
    return false
  end
  if not is_number(answer.validForSeconds) or answer.validForSeconds <= 0 then
    return false
  end
  if type(answer.allowance) ~= "table" or type(answer.providers) ~= "table" then
    return false
  end
  if now_held then
    local older = answer.epoch < now_held.epoch
      or (answer.epoch == now_held.epoch and answer.version < now_held.version)
    if older then
      return false
    end
    -- Standbys don't know the shares: what was dealt under this version stays.
    if not answer.share and answer.version == now_held.version then
      answer.share = now_held.share
    end
  end
  answer.terms = answer.terms or (held and held.terms) or {}
  answer.ends_at = asked_at + answer.validForSeconds * 1000
  held = answer
  return true
end

-- Asks the operator when it is time. The request that does so waits for the answer, a round trip in
-- the cluster and at most ASK_TIMEOUT_MS; the others of this worker go on with what is held. While
-- nothing is held, or `urgent` says that it is not enough, they ask as well, unless the last answer
-- was none.
local function refresh(handle, now, report, urgent)
  local wants = not barren and asking < MOST_ASKING and (urgent or not held_value(now))
  if now < next_ask and not wants then
    return
  end
  next_ask = now + ASK_EVERY_MS
  asking = asking + 1
  local headers, body = handle:httpCall("operator", {
    [":method"] = "POST",
    [":path"] = CONFIG.path,
    [":authority"] = CONFIG.operator,
    ["content-type"] = "application/json",
  }, report(), ASK_TIMEOUT_MS)
  asking = asking - 1
  if headers[":status"] == "200" then
    local fine, answer = pcall(json_decode, body)
    if fine and type(answer) == "table" and pcall(offer, answer, now) then
      failures, barren = 0, false
      return
    end
  end
  barren = true
  if headers[":status"] == "404" then
    -- It has no value for this pool yet.
    failures = 0
    return
  end
  -- An operator that hangs costs one request in a while, not one a second.
  if now >= failed_at + ASK_EVERY_MS then
    failures, failed_at = failures + 1, now
  end
  next_ask = now + ASK_EVERY_MS * math.min(8, 2 ^ (failures - 1))
end
