-- Acts again.
obj.spec.mode = "Active"
return obj
