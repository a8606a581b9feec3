"""Who uses a simulated shop's admin: its owner, invented from the shop's name."""

from __future__ import annotations

import zlib

from sellflow.simulator.oauth.models import Staff


def owner_of(domain: str, user_id: object = None) -> Staff:
    """Return the member of staff of an id; without one, the shop's owner."""
    text = str(user_id)
    number = int(text) if text.isascii() and text.isdigit() else 70_000_000 + zlib.crc32(domain.encode()) % 10_000_000
    return Staff(number, "Robin", "Owner", f"owner@{domain}")
