"""What files say of pools and of what stands around them, checked without a cluster.

`files` reads them, `fields` finds names that the resource does not have, `sense` compares a pool
with the objects beside it.
"""
