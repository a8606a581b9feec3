"""What the status page shows, read in one go and shared by everybody who looks."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime

from sellflow.postgres.database import Connection, Pool
from sellflow.postgres.transactions import shop_transaction
from sellflow.queue.figures import QueueFigures, read_figures

MAX_AGE = 0.9  # seconds: any number of viewers cost one look
EVENTS_SHOWN = 14
MOVEMENTS_SHOWN = 8


@dataclass(frozen=True)
class RunningRole:
    """A role and how many connections it holds."""

    name: str
    connections: int


@dataclass(frozen=True)
class RecentEvent:
    """An event and what came of it."""

    event_id: int
    topic: str
    key: str
    received_at: datetime
    outcome: str | None
    detail: str | None


@dataclass(frozen=True)
class RecentMovement:
    """A movement of points and the balance it left."""

    customer_id: int
    points: int
    balance_after: int
    order_name: str | None
    created_at: datetime


@dataclass(frozen=True)
class Snapshot:
    """Everything on the page."""

    roles: list[RunningRole]
    queues: list[QueueFigures]
    events: list[RecentEvent]
    movements: list[RecentMovement]


class Snapshots:
    """The newest snapshot of one shop, taken again when it is too old."""

    def __init__(self, pool: Pool, *, app: str, domain: str) -> None:
        self._pool = pool
        self._app = app
        self._domain = domain
        self._taken_at = 0.0
        self._snapshot: Snapshot | None = None

    async def newest(self) -> Snapshot:
        """Return a snapshot that is at most `MAX_AGE` seconds old."""
        if self._snapshot is None or time.monotonic() - self._taken_at > MAX_AGE:
            self._taken_at = time.monotonic()
            self._snapshot = await self._take()
        return self._snapshot

    async def _take(self) -> Snapshot:
        shop_id = await self._pool.fetchval(
            "SELECT shop_id FROM apps, find_shops(app_id, ARRAY[$2]) WHERE handle = $1",
            self._app,
            self._domain,
        )
        # No shop has the id 0: without a demo shop, the page shows roles and queues alone.
        async with shop_transaction(self._pool, shop_id or 0) as connection:
            return Snapshot(
                roles=await _roles(connection),
                queues=await read_figures(connection),
                events=await _events(connection, shop_id or 0),
                movements=await _movements(connection, shop_id or 0),
            )


async def _roles(connection: Connection) -> list[RunningRole]:
    """Every role names itself in its connections."""
    rows = await connection.fetch(
        """
        SELECT split_part(application_name, ' ', 2) AS name, count(*) AS connections
        FROM pg_stat_activity
        WHERE datname = current_database() AND application_name LIKE 'sellflow %'
        GROUP BY 1 ORDER BY 1
        """
    )
    return [RunningRole(**row) for row in rows]


async def _events(connection: Connection, shop_id: int) -> list[RecentEvent]:
    """Read the newest events from the partitions of yesterday and today alone."""
    rows = await connection.fetch(
        """
        SELECT e.event_id, e.topic, e.key, e.received_at, o.outcome, o.detail
        FROM (
            SELECT day, event_id, topic, key, received_at FROM events
            WHERE shop_id = $1 AND day >= (now() AT TIME ZONE 'UTC')::date - 1
            ORDER BY day DESC, event_id DESC LIMIT $2
        ) e
        LEFT JOIN LATERAL (
            SELECT outcome, detail FROM outcomes o WHERE o.day = e.day AND o.event_id = e.event_id LIMIT 1
        ) o ON true
        ORDER BY e.event_id DESC
        """,
        shop_id,
        EVENTS_SHOWN,
    )
    return [RecentEvent(**row) for row in rows]


async def _movements(connection: Connection, shop_id: int) -> list[RecentMovement]:
    rows = await connection.fetch(
        """
        SELECT a.customer_id, e.points, e.balance_after, t.snapshot ->> 'order' AS order_name, t.created_at
        FROM (SELECT transfer_id, snapshot, created_at FROM transfers
              WHERE shop_id = $1 ORDER BY transfer_id DESC LIMIT $2) t
        JOIN entries e ON e.transfer_id = t.transfer_id
        JOIN accounts a ON a.account_id = e.account_id AND a.customer_id IS NOT NULL
        ORDER BY t.transfer_id DESC
        """,
        shop_id,
        MOVEMENTS_SHOWN,
    )
    return [RecentMovement(**row) for row in rows]
