"""I/O at the edges: Kubernetes, Prometheus, engines. An adapter decides nothing."""
