"""The client reads exactly one answer at a time, and refuses what it cannot read."""

from __future__ import annotations

import pytest

from benchmarks.http1 import MOST_REMEMBERED_HEADS, Answer, ProtocolError, _remembered, parse_answer


def test_an_answer_ends_after_its_content_length() -> None:
    data = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOKHTTP/1.1"
    assert parse_answer(data) == Answer(200, len(data) - len(b"HTTP/1.1"))


def test_every_prefix_of_an_answer_is_incomplete() -> None:
    data = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\nx: y\r\n\r\nbusy"
    assert [parse_answer(data[:end]) for end in range(len(data))] == [None] * len(data)
    assert parse_answer(data) == Answer(503, len(data))


def test_an_answer_without_a_body_needs_no_length() -> None:
    assert parse_answer(b"HTTP/1.1 204 No Content\r\n\r\n") == Answer(204, 27)


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/2 200\r\ncontent-length: 0\r\n\r\n",
    ],
)
def test_what_cannot_be_read_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_answer(data)


def test_a_header_that_only_ends_like_content_length_is_not_it() -> None:
    with pytest.raises(ProtocolError):
        parse_answer(b"HTTP/1.1 200 OK\r\nX-Content-Length: 7\r\n\r\n")


def test_the_memory_of_heads_is_bounded() -> None:
    for number in range(MOST_REMEMBERED_HEADS + 10):
        parse_answer(b"HTTP/1.1 200 OK\r\nx: %d\r\ncontent-length: 0\r\n\r\n" % number)
    assert len(_remembered) <= MOST_REMEMBERED_HEADS
