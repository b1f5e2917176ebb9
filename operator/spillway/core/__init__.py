"""The policy: pure functions of facts and time. No I/O, no clock, no Kubernetes client."""
