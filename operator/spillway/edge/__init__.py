"""The edge: stock Envoy with admission before a pool, as configuration.

`settings` is what a person writes, `bootstrap` what Envoy reads, `lua` the scripts in it.
"""
