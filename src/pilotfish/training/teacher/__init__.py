"""The KD teacher: cached outputs, and the comparison with the student."""
