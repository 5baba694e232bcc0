"""Serving costs: kernels, one LLM iteration, KV capacity, what a replica can serve."""
