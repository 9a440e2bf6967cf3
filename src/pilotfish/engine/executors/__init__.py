"""Three thin runners over one scorer: this process or several, a Ray cluster, equal ranks.

A shard is the unit of commit, of retry and of scheduling. What crosses between processes are shard
numbers, receipts and troubles; what was measured goes through the run folder alone.
"""
