"""Canaries: rows of known attacks, scored like the pool and held against a selection."""
