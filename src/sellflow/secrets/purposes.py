"""What values are sealed for, where more than one room opens them."""

from __future__ import annotations


def app_secret(handle: str) -> str:
    """Return what an app's secret is sealed for: it may become the previous one as it stands, and move to no other."""
    return f"app/{handle}/secret"
