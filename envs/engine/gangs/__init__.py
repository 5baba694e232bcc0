"""Gangs: their life in the cluster, and the plans that place them."""
