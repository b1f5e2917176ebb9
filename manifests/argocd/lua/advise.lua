-- Computes and reports, and changes nothing.
obj.spec.mode = "Advise"
return obj
