"""Sweeps that try to break what docs/promises.md promises, and the table of what they reached."""
