"""Futures: many share one condition, end a message at a time, and call users' callbacks."""
