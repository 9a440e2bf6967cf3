"""Golden numbers of everything that a run folder caches under a format number raised by hand."""
