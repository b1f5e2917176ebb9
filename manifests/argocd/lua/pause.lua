-- Hands every pod back to role serving, ends overflow and stops.
obj.spec.mode = "Paused"
return obj
