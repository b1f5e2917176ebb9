-- Finds scalar fields at the top level of a JSON object without reading the rest of it: a prompt of
-- a megabyte is one string that is skipped.

local WANTED = { model = true, max_tokens = true, max_completion_tokens = true, stream = true }

local function string_end(text, at)
  local stop = at + 1
  while true do
    stop = text:find('["\\]', stop)
    if not stop or text:byte(stop) == 34 then
      return stop
    end
    stop = stop + 2
  end
end

-- By name: value, from and to (of a string's inside); `twice` where a name is there again.
local function top_level(text)
  local found, depth, at = {}, 0, 1
  while true do
    local place = text:find('["{}%[%]]', at)
    if not place then
      return found
    end
    local byte = text:byte(place)
    at = place + 1
    if byte == 123 or byte == 91 then
      depth = depth + 1
    elseif byte == 125 or byte == 93 then
      depth = depth - 1
    else
      local stop = string_end(text, place)
      if not stop then
        return found
      end
      at = stop + 1
      local name = depth == 1 and text:sub(place + 1, stop - 1)
      local value_at = name and WANTED[name] and text:match("^%s*:%s*()", at)
      if value_at then
        local field = { twice = found[name] ~= nil }
        if text:byte(value_at) == 34 then
          local ends = string_end(text, value_at)
          if not ends then
            return found
          end
          field.from, field.to = value_at + 1, ends - 1
          field.value = text:sub(field.from, field.to)
          at = ends + 1
        else
          local word = text:match("^[%w+.-]+", value_at)
          field.value = word and (tonumber(word) or word)
          at = value_at
        end
        found[name] = field
      end
    end
  end
end
