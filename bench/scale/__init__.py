"""The scale benchmark: a fleet on a real control plane, and what the operator makes of it."""
