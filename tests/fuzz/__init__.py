"""Hostile input to every loader; ``make fuzz`` runs it, docs/reliability.md has its results."""
