"""The journal: durable records and the SQLite file that keeps them. Synchronous; knows no event loop."""
