-- Counts what an answer used as it streams by. The engine's own `usage` is the truth; where a stream
-- has none, its events are counted, which vLLM sends one a token.

local TAIL = 4096

local function new_usage()
  return { tail = "", events = 0, bytes = 0, first_at = nil, last_at = nil }
end

local function add_chunk(usage, chunk, now)
  usage.first_at = usage.first_at or now
  usage.last_at = now
  usage.bytes = usage.bytes + #chunk
  local _, events = chunk:gsub("data: {", "")
  usage.events = usage.events + events
  if #chunk >= TAIL then
    usage.tail = chunk:sub(-TAIL)
  else
    usage.tail = (usage.tail .. chunk):sub(-TAIL)
  end
end

local function last_number(text, one, other)
  local found
  for name, number in text:gmatch('"([%a_]+)"%s*:%s*(%d+)') do
    if name == one or name == other then
      found = tonumber(number)
    end
  end
  return found
end

-- Prompt and completion tokens; nil where the answer does not say. Text can't fake them: inside a
-- string its quotes are escaped.
local function counted(usage)
  local prompt = last_number(usage.tail, "prompt_tokens", "input_tokens")
  local completion = last_number(usage.tail, "completion_tokens", "output_tokens")
  if not completion and usage.events > 0 then
    completion = usage.events
  end
  return prompt, completion
end
