-- Buttons of an InferencePool: one for each mode that it is not in.
local mode = "Active"
if obj.spec ~= nil and obj.spec.mode ~= nil then
  mode = obj.spec.mode
end
return {
  ["pause"] = { ["disabled"] = mode == "Paused" },
  ["resume"] = { ["disabled"] = mode == "Active" },
  ["advise"] = { ["disabled"] = mode == "Advise" },
}
