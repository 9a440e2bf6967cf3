"""The demo: a generated offline world with known truth, and two tiny models."""
