"""Collectives inside and between nodes."""
