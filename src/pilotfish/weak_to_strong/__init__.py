"""Weak-to-strong experiments: a weak model labels, a strong one learns, and PGR says how well."""
