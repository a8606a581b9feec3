"""The little of HTTP/1.1 that a closed-loop client must understand: where an answer ends, and its status."""

from __future__ import annotations

import re
from typing import NamedTuple

HEAD_END = b"\r\n\r\n"
MOST_REMEMBERED_HEADS = 512
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})(?: |\r)")
_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)[ \t]*\r\n", re.IGNORECASE)
_TRANSFER_ENCODING = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)
_BODILESS = frozenset({204, 304})

_remembered: dict[bytes, tuple[int, int]] = {}


class ProtocolError(Exception):
    """The server's answer is not HTTP/1.1 as this client reads it."""


class Answer(NamedTuple):
    """One complete answer: its status, and its length in bytes with head and body."""

    status: int
    length: int


def parse_answer(data: bytes) -> Answer | None:
    """Return the answer that `data` begins with, or None while it is incomplete.

    Servers repeat the same head for a second on end (only its Date changes), so heads are remembered.

    Raises
    ------
    ProtocolError
        If the head is malformed, or says where the body ends in a way not read here (chunked).
    """
    head_end = data.find(HEAD_END)
    if head_end < 0:
        return None
    head = data[: head_end + len(HEAD_END)]
    known = _remembered.get(head)
    if known is None:
        known = _remember(head)
    status, body_length = known
    length = len(head) + body_length
    return Answer(status, length) if len(data) >= length else None


def _remember(head: bytes) -> tuple[int, int]:
    if len(_remembered) >= MOST_REMEMBERED_HEADS:
        _remembered.clear()
    _remembered[head] = read_head(head)
    return _remembered[head]


def read_head(head: bytes) -> tuple[int, int]:
    """Return the status and the length of the body that follows this head."""
    status_line = _STATUS.match(head)
    if status_line is None:
        raise ProtocolError(f"not a status line: {head[:60]!r}")
    status = int(status_line[1])
    if _TRANSFER_ENCODING.search(head):
        raise ProtocolError("the answer is chunked; answer with Content-Length")
    length = _CONTENT_LENGTH.search(head)
    if length is None and status not in _BODILESS:
        raise ProtocolError("the answer has no Content-Length")
    return status, int(length[1]) if length else 0
