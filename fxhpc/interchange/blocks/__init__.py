"""Blocks of nodes: when they are asked for and given back, what of them fails, what they hold."""
