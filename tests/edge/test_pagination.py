"""Cursors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sellflow.edge.pagination import LARGEST_POSITION, decode_cursor, encode_cursor
from sellflow.edge.problems import Problem


@given(st.integers(0, LARGEST_POSITION))
def test_a_cursor_leads_back_to_its_position(position: int) -> None:
    cursor = encode_cursor(position)
    assert decode_cursor(cursor) == position
    assert cursor.isalnum()  # fits into an address as it is


@pytest.mark.parametrize(
    "cursor",
    ["!", "MTA=x", "abc", "LTE", "MDE", "IDE", "MS4w", "é", "\x00", "MQ MQ", "A" * 64, encode_cursor(2**63)],
)
def test_a_cursor_that_is_none_of_ours_is_refused(cursor: str) -> None:
    with pytest.raises(Problem) as caught:
        decode_cursor(cursor)
    assert (caught.value.status, caught.value.code) == (400, "request.invalid_cursor")


@given(st.text(max_size=64))
def test_any_text_is_a_position_or_a_problem(cursor: str) -> None:
    try:
        position = decode_cursor(cursor)
    except Problem:
        return
    assert encode_cursor(position) == cursor.rstrip("=")
