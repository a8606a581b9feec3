"""The settings that durability rests on, as the running servers report them."""

from __future__ import annotations

from collections.abc import Mapping

import psycopg

POSTGRES_SETTINGS = ("fsync", "full_page_writes", "synchronous_commit")
REDIS_SETTINGS = ("appendonly", "appendfsync")
DURABLE = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "appendonly": "yes",
    "appendfsync": "always",
}


def read_postgres(address: str) -> dict[str, str]:
    """Return Postgres's settings, and under `overrides` what a role or database sets differently."""
    with psycopg.connect(address) as connection:
        rows = connection.execute(
            "SELECT name, setting FROM pg_settings WHERE name = ANY(%s) ORDER BY name",
            [list(POSTGRES_SETTINGS)],
        ).fetchall()
        overrides = connection.execute("SELECT unnest(setconfig) FROM pg_db_role_setting").fetchall()
    settings = {str(name): str(value) for name, value in rows}
    weakened = [text for (text,) in overrides if str(text).split("=", 1)[0] in POSTGRES_SETTINGS]
    return settings | ({"overrides": ", ".join(weakened)} if weakened else {})


def parse_redis(reply: str) -> dict[str, str]:
    """Read what `redis-cli CONFIG GET` prints: a name on one line, its value on the next."""
    lines = reply.splitlines()
    found = dict(zip(lines[::2], lines[1::2], strict=False))
    return {name: found[name] for name in REDIS_SETTINGS if name in found}


def shortfalls(durability: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Name every setting that is weaker than a fair comparison allows."""
    return [
        f"{side}: {name} is {value}"
        for side, settings in durability.items()
        for name, value in settings.items()
        if value != DURABLE.get(name)
    ]
