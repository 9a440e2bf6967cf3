"""Weak-to-strong experiments: floor, ceiling, students, PGR."""
