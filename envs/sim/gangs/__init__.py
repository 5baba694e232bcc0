"""Gangs: their life in the cluster, the plans that place them, and what a policy sees of them."""
