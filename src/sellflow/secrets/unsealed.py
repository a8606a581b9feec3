"""Seals what earlier versions stored in the clear: part of `sellflow migrate`, and resumed by the next run of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal

import structlog

from sellflow.postgres.database import SessionConnection

log = structlog.get_logger(__name__)

Kind = Literal["app", "previous_app", "endpoint", "signing_key"]
#: Stores a secret sealed: it is given what names its row, and the secret.
Seal = Callable[[str, str], Awaitable[None]]


async def seal_all(connection: SessionConnection, kind: Kind, seal: Seal) -> int:
    """Have every waiting secret of a kind sealed, each in a transaction of its own; return how many these were."""
    rows = await connection.fetch("SELECT row_id FROM unsealed_secrets WHERE kind = $1 ORDER BY row_id", kind)
    for row in rows:
        async with connection.transaction():
            # Of two who migrate at once, the second finds the row gone.
            plain = await connection.fetchval(
                "DELETE FROM unsealed_secrets WHERE kind = $1 AND row_id = $2 RETURNING plain", kind, row["row_id"]
            )
            if plain is not None:
                await seal(row["row_id"], plain)
    if rows:
        log.info("secrets.sealed", kind=kind, rows=len(rows))
    return len(rows)


async def empty_file(connection: SessionConnection) -> None:
    """Take what was sealed off the disk: rows that were deleted stay in a table's file."""
    async with connection.transaction():
        if not await connection.fetchval("SELECT pg_relation_size('unsealed_secrets') > 0"):
            return
        await connection.execute("LOCK TABLE unsealed_secrets")
        if not await connection.fetchval("SELECT EXISTS (SELECT FROM unsealed_secrets)"):
            await connection.execute("TRUNCATE unsealed_secrets")


async def count_unsealed(connection: SessionConnection) -> int:
    """Return how many secrets still wait to be sealed."""
    return int(await connection.fetchval("SELECT count(*) FROM unsealed_secrets"))
