"""Many methods on the same tasks: one file, one command, one table."""
