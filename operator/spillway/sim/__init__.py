"""Simulation: the request-level replica model, workloads, replay of the core."""
