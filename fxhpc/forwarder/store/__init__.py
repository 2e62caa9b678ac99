"""The durable truth: one SQLite database, files beside it, and the thread that owns them."""
