"""Durability is read back, and what falls short is named."""

from __future__ import annotations

from benchmarks.durability import parse_redis, shortfalls


def test_what_redis_prints_is_read_in_any_order() -> None:
    reply = "appendfsync\nalways\nappendonly\nyes"
    assert parse_redis(reply) == {"appendonly": "yes", "appendfsync": "always"}


def test_what_redis_did_not_say_is_left_out() -> None:
    assert parse_redis("appendonly\nno\n") == {"appendonly": "no"}
    assert parse_redis("") == {}


def test_only_settings_weaker_than_full_durability_are_named() -> None:
    full = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}
    assert shortfalls({"a": full, "b": {"appendonly": "yes", "appendfsync": "always"}}) == []
    assert shortfalls({"a": full | {"synchronous_commit": "off"}, "b": {"appendfsync": "everysec"}}) == [
        "a: synchronous_commit is off",
        "b: appendfsync is everysec",
    ]


def test_a_role_that_overrides_a_setting_falls_short() -> None:
    assert shortfalls({"a": {"fsync": "on", "overrides": "synchronous_commit=off"}}) == [
        "a: overrides is synchronous_commit=off"
    ]
