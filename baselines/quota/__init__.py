"""Decisions about queues as pure functions of small arrays; planners stand in ``gang/``."""
