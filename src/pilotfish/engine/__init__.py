"""Runs models over rows: batch plan, forward, shard scorer, greedy answers."""
