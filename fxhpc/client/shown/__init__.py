"""What is shown to people: progress, tables, notebooks, lists, states."""
