"""Turn scores into a selection: rank, cut, dedup, quota, controls, precision audit."""
