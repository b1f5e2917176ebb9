"""The policy benchmark: one frozen Spillway against tuned rivals and the optimum, in many worlds.

`worlds` says in which worlds, `jobs` does one part of the work, `tables` puts the parts together.
``bench/bench_policy.py`` runs it.
"""
