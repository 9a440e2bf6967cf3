"""Executors, thin runners over one shard scorer: this process or several, Ray, or equal ranks.

A shard is the unit of commit, of retry and of scheduling. Only shard numbers, receipts and failures
cross between processes; measurements go through the run folder alone.
"""
