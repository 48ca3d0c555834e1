-- How Argo CD shows an AppCodeRotation. It goes into the ConfigMap argocd-cm, as docs/gitops.md tells; Lua 5.1, no libraries.
--
-- A code that works is healthy while the one before it is still being retired: waves of a sync need not wait for a grace period.
local health = { status = "Progressing", message = "The operator has not looked at this version of the resource yet." }
local status = obj.status
if status == nil or status.observedGeneration ~= obj.metadata.generation then
  return health
end

local conditions = {}
for _, condition in ipairs(status.conditions or {}) do
  conditions[condition.type] = condition
end
local ready, stalled, reconciling = conditions.Ready, conditions.Stalled, conditions.Reconciling

if stalled ~= nil and stalled.status == "True" then
  health.status, health.message = "Degraded", stalled.reason .. ": " .. stalled.message
elseif obj.spec.suspend == true then
  health.status, health.message = "Suspended", "Rotations are held by spec.suspend."
elseif ready ~= nil and ready.status == "True" then
  health.status, health.message = "Healthy", ready.message
elseif ready ~= nil and ready.reason == "VerificationFailed" then
  -- Nothing stops the rotation, and no consumer may be able to use the code.
  health.status, health.message = "Degraded", ready.reason .. ": " .. ready.message
elseif reconciling ~= nil and reconciling.status == "True" then
  health.message = reconciling.reason .. ": " .. reconciling.message
elseif ready ~= nil then
  health.message = ready.reason .. ": " .. ready.message
end
return health
