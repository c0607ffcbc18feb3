"""Kubernetes: how to reach a cluster and as whom, its pods, events and logs, and commands in its containers."""
