"""Drives a real manager: an interchange of a few lines, and the tasks that it sends."""
