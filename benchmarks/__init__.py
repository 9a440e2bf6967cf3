"""What the engine is worth on this machine: `make bench` runs every part, one process each."""
