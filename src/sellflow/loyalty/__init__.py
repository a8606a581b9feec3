"""Loyalty: what orders earn, and the ledger that keeps it."""
