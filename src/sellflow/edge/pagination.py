"""Opaque cursors: where a page ends, as a string that a client only passes on."""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode

from sellflow.edge.problems import Problem

LARGEST_POSITION = 2**63 - 1


def encode_cursor(position: int) -> str:
    """Return the cursor of a position, an id that pages are ordered by."""
    return urlsafe_b64encode(str(position).encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> int:
    """Return the position of a cursor.

    Raises
    ------
    Problem
        400, when it is none of ours.
    """
    try:
        text = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
    except (binascii.Error, ValueError):
        text = ""
    if not text.isdigit() or int(text) > LARGEST_POSITION or encode_cursor(int(text)) != cursor.rstrip("="):
        detail = "The cursor is not one of ours: pass on `next_cursor` as it was given, or leave it out."
        raise Problem(400, "request.invalid_cursor", detail)
    return int(text)
