-- Health of an InferencePool for Argo CD, from its conditions alone.
--   Suspended:   mode Paused, or the operator is read-only: nothing is changed
--   Degraded:    the spec is not valid, the target is missing, or somebody else scales it
--   Progressing: not seen yet, or fewer serving replicas than the floor
--   Healthy:     Ready. Overflow, a spent budget and a runaway are states of work, not of health:
--                they are alerts, and a sync must not wait for them.
local hs = { status = "Progressing", message = "Spillway has not looked at this pool yet" }
if obj.status == nil or obj.status.conditions == nil then
  return hs
end

local found = {}
for _, condition in ipairs(obj.status.conditions) do
  found[condition.type] = condition
end

local function is(kind, status)
  return found[kind] ~= nil and found[kind].status == status
end

local function say(status, kind)
  local condition = found[kind]
  hs.status = status
  hs.message = condition.reason
  if condition.message ~= nil and condition.message ~= "" then
    hs.message = condition.reason .. ": " .. condition.message
  end
  return hs
end

-- What was said of an older spec says nothing of this one.
local generation = obj.metadata.generation
local ready = found["Ready"]
if ready == nil or (generation ~= nil and ready.observedGeneration ~= nil
    and ready.observedGeneration < generation) then
  hs.message = "Spillway has not looked at this generation yet"
  return hs
end

local broken = {
  InvalidSpec = true,
  TargetNotFound = true,
  UnsupportedTarget = true,
  RoleInSelector = true,
}
if ready.status ~= "True" and broken[ready.reason] then
  return say("Degraded", "Ready")
end
if is("TargetContested", "True") then
  return say("Degraded", "TargetContested")
end
if is("Paused", "True") then
  return say("Suspended", "Paused")
end
if ready.status ~= "True" then
  return say("Progressing", "Ready")
end
return say("Healthy", "Ready")
