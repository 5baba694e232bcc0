"""Decisions: what is offered, what a policy sees of it, and how it is carried out."""
