"""Evaluation: roll policies out on held-out seeds, compare them, write tables and plots.

Importing this package loads nothing; only ``plots`` needs matplotlib.
"""
