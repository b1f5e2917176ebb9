"""The rig: a real control plane and Prometheus to run the operator against, without a GPU."""
