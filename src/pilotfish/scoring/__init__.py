"""One file per verb or experiment, each readable top to bottom."""
