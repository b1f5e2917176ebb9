"""The Kubernetes API: client, informers, writers."""
