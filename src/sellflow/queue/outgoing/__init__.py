"""Telling others of events: signed webhooks and SNS, delivered at least once from the queue itself."""
