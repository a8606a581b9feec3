"""Secrets at rest: envelope encryption and the keys that wrap it."""
