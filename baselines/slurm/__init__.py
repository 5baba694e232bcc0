"""Slurm's rules of priority, fair share, QOS limits and preemption."""
