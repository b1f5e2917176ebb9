"""The running operator: loops, wiring, leadership, HTTP endpoints."""
