"""Canaries: rows of known attacks, scored like the pool and replayed in a selection."""
