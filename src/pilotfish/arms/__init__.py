"""Arms of an experiment: their rows, their training data, their steps."""
