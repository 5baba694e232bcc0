"""Learned agents: the network, its training, and the adapter to stable-baselines3.

Importing this package loads nothing; its modules, ``config`` excepted, need torch and
stable-baselines3 (``pip install gpuyard[train]``).
"""
