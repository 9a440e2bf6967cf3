"""Commands that examine data, runs and this machine: inspect, explain, verify, doctor."""
