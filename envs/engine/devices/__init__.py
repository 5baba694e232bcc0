"""Nodes and their GPUs: what is free, what has failed."""
