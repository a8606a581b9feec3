"""The ingest endpoint: authenticate, store, answer."""
