"""Kueue's rules of quota: cohorts, preemption in order, fair sharing."""
