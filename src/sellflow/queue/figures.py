"""What the queues hold and how fast they empty: for the command line, the status page and Prometheus."""

from __future__ import annotations

from dataclasses import dataclass

from sellflow.postgres.database import Connection, Pool

#: Seconds over which the rate of handling is taken.
WINDOW = 10


@dataclass(frozen=True, slots=True)
class QueueFigures:
    """What one queue holds; queue_figures() in the migrations says what counts as what.

    Counts are exact up to 10,000 and the planner's estimate above.
    """

    queue: str
    waiting: int
    in_flight: int
    parked: int
    followers: int
    dead: int
    oldest_seconds: float
    paused: bool
    paused_shops: int


async def read_figures(connection: Connection | Pool) -> list[QueueFigures]:
    """Return every queue's figures; cheap however deep a queue is."""
    return [QueueFigures(**row) for row in await connection.fetch("SELECT * FROM queue_figures()")]


async def handled_per_second(connection: Connection) -> dict[str, float]:
    """Return how many messages each queue brought to an end a second lately, as the owner, who sees every shop.

    Messages about events of today and yesterday count; only older ones of a long backlog or a replay do not.
    """
    rows = await connection.fetch(
        """
        SELECT queue, count(*) / $1::double precision AS per_second
        FROM outcomes
        WHERE day >= (now() AT TIME ZONE 'UTC')::date - 1
          AND handled_at > clock_timestamp() - make_interval(secs => $1)
        GROUP BY queue
        """,
        float(WINDOW),
    )
    return {row["queue"]: row["per_second"] for row in rows}
