"""A call tracer: which files and functions of a package a command enters, in which order."""
