"""Everything that a database holds, and whether something is found in it however it is written."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator

from sellflow.postgres.database import SessionConnection


async def dump(owner: SessionConnection) -> dict[str, str]:
    """Return every row of every table as text, by table; bytes are in hex."""
    tables = await owner.fetch(
        """
        SELECT c.oid::regclass::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
        """
    )
    found = {}
    for table in tables:
        rows = await owner.fetch(f"SELECT t::text AS line FROM {table['name']} t")
        found[table["name"]] = "\n".join(row["line"] for row in rows)
    return found


def spellings(datum: str) -> Iterator[str]:
    """Yield a datum as it is, as JSON, as hex and as base64 at any place of a text."""
    yield datum
    yield json.dumps(datum)[1:-1]
    yield datum.encode().hex()
    for before in range(3):
        encoded = b64encode(b"\0" * before + datum.encode()).decode().rstrip("=")
        # The first and last characters depend on the neighbours.
        yield encoded[before and before + 1 : -1]


def where_found(tables: dict[str, str], data: Iterable[str]) -> set[str]:
    """Return what of `data` is found, and in which table."""
    found = set()
    for table, text in tables.items():
        for datum in data:
            for spelling in spellings(datum):
                pattern = rf"(?<!\d){spelling}(?!\d)" if spelling.isdigit() else re.escape(spelling)
                if re.search(pattern, text, re.IGNORECASE):
                    found.add(f"{datum} in {table}")
    return found
