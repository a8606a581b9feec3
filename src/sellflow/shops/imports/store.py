"""The SQL of imports: one of each kind at a time a shop, and how far it has come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sellflow.postgres.database import Connection, SessionConnection

Kind = Literal["customers", "orders"]
State = Literal["waiting", "exporting", "reading", "done", "failed", "cancelled"]
_IMPORT = """
    import_id, shop_id, kind, state, since, operation_id, lines_read, expected, stored, error, failures, asked_at,
    finished_at
"""


@dataclass(frozen=True, slots=True)
class Import:
    """An import; `expected` counts what Shopify exports, as far as it is known."""

    import_id: int
    shop_id: int
    kind: Kind
    state: State
    since: datetime | None
    operation_id: str | None
    lines_read: int
    expected: int | None
    stored: int
    error: str
    failures: int
    asked_at: datetime
    finished_at: datetime | None

    @property
    def share(self) -> float | None:
        """How much of it is done, from 0 to 1; None while nobody knows how much there is."""
        if self.state == "done":
            return 1.0
        return min(self.stored / self.expected, 1.0) if self.expected else None


async def ask_for(connection: Connection, shop_ids: Sequence[int], kind: Kind, *, since: datetime | None = None) -> int:
    """Have something imported, where it is not being imported already; return for how many shops."""
    rows = await connection.fetch(
        """
        INSERT INTO imports (shop_id, kind, since)
        SELECT DISTINCT shop_id, $2, $3::timestamptz FROM unnest($1::bigint[]) AS s (shop_id)
        ON CONFLICT (shop_id, kind) WHERE finished_at IS NULL DO NOTHING
        RETURNING import_id
        """,
        list(shop_ids),
        kind,
        since,
    )
    return len(rows)


async def take_due(connection: SessionConnection, *, again_in: float, at_most: int) -> list[tuple[int, int]]:
    """Return (shop, import) pairs whose next step is due. The step comes again where nobody tells how it ended."""
    rows = await connection.fetch(
        """
        WITH due AS (
            SELECT i.import_id FROM imports i JOIN shops s USING (shop_id)
            WHERE i.finished_at IS NULL AND i.next_step_at <= clock_timestamp() AND s.uninstalled_at IS NULL
            ORDER BY i.next_step_at
            LIMIT $2
            FOR UPDATE OF i SKIP LOCKED
        )
        UPDATE imports i SET next_step_at = clock_timestamp() + make_interval(secs => $1)
        FROM due WHERE i.import_id = due.import_id
        RETURNING i.shop_id, i.import_id
        """,
        again_in,
        at_most,
    )
    return sorted((row["shop_id"], row["import_id"]) for row in rows)


async def find_import(connection: Connection, shop_id: int, import_id: int) -> Import | None:
    """Return an import that goes on; None where it has ended."""
    row = await connection.fetchrow(
        f"SELECT {_IMPORT} FROM imports WHERE shop_id = $1 AND import_id = $2 AND finished_at IS NULL",
        shop_id,
        import_id,
    )
    return Import(**row) if row else None


async def note_export(
    connection: Connection, of: Import, *, operation_id: str, state: str, expected: int | None
) -> None:
    """Note how far Shopify has come with writing its file."""
    await connection.execute(
        """
        UPDATE imports SET operation_id = $3, state = $4, expected = COALESCE($5, expected), failures = 0, error = ''
        WHERE shop_id = $1 AND import_id = $2 AND finished_at IS NULL
        """,
        of.shop_id,
        of.import_id,
        operation_id,
        state,
        expected,
    )


async def note_stored(connection: Connection, of: Import, *, lines_before: int, lines_read: int, stored: int) -> bool:
    """Note what was stored, with the transaction that stores it; False where somebody else came further meanwhile."""
    status = await connection.execute(
        """
        UPDATE imports SET lines_read = $4, stored = stored + $5, failures = 0, error = ''
        WHERE shop_id = $1 AND import_id = $2 AND lines_read = $3 AND finished_at IS NULL
        """,
        of.shop_id,
        of.import_id,
        lines_before,
        lines_read,
        stored,
    )
    return status == "UPDATE 1"


async def step_in(connection: Connection, shop_id: int, import_id: int, seconds: float) -> None:
    """Have the next step done in so many seconds."""
    await connection.execute(
        """
        UPDATE imports SET next_step_at = clock_timestamp() + make_interval(secs => $3)
        WHERE shop_id = $1 AND import_id = $2
        """,
        shop_id,
        import_id,
        seconds,
    )


async def note_failure(connection: Connection, shop_id: int, import_id: int, error: str) -> None:
    """Note why a step failed; the next comes later each time."""
    await connection.execute(
        """
        UPDATE imports
        SET error = $3, failures = failures + 1,
            next_step_at = clock_timestamp() + make_interval(secs => 5 * 2 ^ LEAST(failures, 8))
        WHERE shop_id = $1 AND import_id = $2
        """,
        shop_id,
        import_id,
        error[:1000],
    )


async def end(connection: Connection, shop_id: int, import_id: int, *, state: str, error: str = "") -> None:
    """End an import as done, failed or cancelled."""
    await connection.execute(
        """
        UPDATE imports SET state = $3, error = $4, finished_at = clock_timestamp()
        WHERE shop_id = $1 AND import_id = $2 AND finished_at IS NULL
        """,
        shop_id,
        import_id,
        state,
        error[:1000],
    )


async def list_imports(connection: Connection, shop_id: int) -> list[Import]:
    """Return a shop's imports, the newest first."""
    rows = await connection.fetch(
        f"SELECT {_IMPORT} FROM imports WHERE shop_id = $1 ORDER BY import_id DESC LIMIT 20", shop_id
    )
    return [Import(**row) for row in rows]


async def backlog(connection: Connection, queues: Sequence[str], *, enough: int) -> int:
    """Return how many messages wait in the fullest of `queues`; counting stops at `enough`."""
    most = 0
    for queue in queues:
        waiting = await connection.fetchval(
            f'SELECT count(*) FROM (SELECT FROM pgmq."q_{queue}" LIMIT $1) AS waiting', enough
        )
        most = max(most, waiting)
    return most
