"""Runs models over rows: batches, forward passes, signals, shard files, answers."""
