"""The commands. None yet."""
