"""Thin layers for other tools. None yet: they take an `Executor` as it is."""
