"""Replicas: continuous batching, KV blocks, prefix cache, step costs."""
