"""What users declare of tasks beside arguments: what they need, labels, keys, containers."""
