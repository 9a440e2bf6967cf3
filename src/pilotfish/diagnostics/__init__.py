"""Look into data, runs and this machine: inspect, explain, verify, doctor."""
