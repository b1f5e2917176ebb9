-- Reads the operator's JSON. It is well formed or the answer is not taken: errors go to pcall.

local ESCAPES = { b = "\b", f = "\f", n = "\n", r = "\r", t = "\t" }
local LITERALS = { ["true"] = true, ["false"] = false }

local function json_string(text, at)
  local parts, from = {}, at + 1
  while true do
    local stop = assert(text:find('["\\]', from), "a string that does not end")
    parts[#parts + 1] = text:sub(from, stop - 1)
    if text:sub(stop, stop) == '"' then
      return table.concat(parts), stop + 1
    end
    local escaped = text:sub(stop + 1, stop + 1)
    if escaped == "u" then
      -- Names and reasons are ASCII; anything else is only shown.
      local code = tonumber(text:sub(stop + 2, stop + 5), 16) or 63
      parts[#parts + 1] = code < 128 and string.char(code) or "?"
      from = stop + 6
    else
      parts[#parts + 1] = ESCAPES[escaped] or escaped
      from = stop + 2
    end
  end
end

local function json_value(text, at)
  at = assert(text:find("%S", at), "ends early")
  local first = text:sub(at, at)
  if first == '"' then
    return json_string(text, at)
  end
  if first == "{" or first == "[" then
    local out, closing = {}, first == "{" and "}" or "]"
    at = assert(text:find("%S", at + 1), "ends early")
    while text:sub(at, at) ~= closing do
      local key = #out + 1
      if closing == "}" then
        key, at = json_string(text, at)
        at = assert(text:match("^%s*:()", at), "a key without a value")
      end
      out[key], at = json_value(text, at)
      at = assert(text:match("^%s*,?%s*()", at))
    end
    return out, at + 1
  end
  local word, stop = text:match("^([%w+.-]+)()", at)
  assert(word, "not JSON")
  if word == "null" then
    return nil, stop
  end
  if LITERALS[word] ~= nil then
    return LITERALS[word], stop
  end
  return assert(tonumber(word), "not a number"), stop
end

local function json_decode(text)
  return (json_value(text, 1))
end
