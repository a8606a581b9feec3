"""Which queue gets a message for which event, and the SQL that puts it there.

pgmq's own send looks every binding up for every batch, which is most of what storing a small batch costs. Its table
of bindings decides here as well, but is read once a second.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence

from sellflow.postgres.database import Connection, Pool

#: The channel on which queues with new messages are announced, one queue name a notification.
WAKE_UP_CHANNEL = "sellflow_queues"
#: Seconds for which a new binding may go unnoticed.
MAX_AGE = 1.0


class Routes:
    """The bindings of the declared topics."""

    def __init__(self, topics: Iterable[str]) -> None:
        self._topics = sorted(topics)
        self._queues: dict[str, list[str]] = {}
        self._read_at = float("-inf")

    async def topics_by_queue(self, connection: Connection | Pool, topics: Collection[str]) -> dict[str, list[str]]:
        """Return the queues that get messages for any of `topics`, each with those of them that it gets."""
        if time.monotonic() - self._read_at > MAX_AGE:
            await self._read(connection)
        found: dict[str, list[str]] = {}
        for topic in sorted(set(topics)):
            for queue in self._queues.get(topic, ()):
                found.setdefault(queue, []).append(topic)
        return found

    async def _read(self, connection: Connection | Pool) -> None:
        rows = await connection.fetch(
            """
            SELECT t.topic, array_agg(DISTINCT b.queue_name::text) AS queues
            FROM unnest($1::text[]) AS t (topic) JOIN pgmq.topic_bindings b ON t.topic ~ b.compiled_regex
            GROUP BY t.topic
            """,
            self._topics,
        )
        self._queues = {row["topic"]: row["queues"] for row in rows}
        self._read_at = time.monotonic()


def sending(queues: Sequence[str], *, rows: str, parameter: int, announced: bool) -> list[str]:
    """Return WITH queries that put messages for `rows` (day, event_id, shop_id, topic, key) into queues.

    The topics of each queue are one text[] parameter, from number `parameter` on in the order of `queues`. Where it
    is `announced`, whoever listens is told at the commit, provided that `announcements` are read.
    """
    sent = [
        f"""sent_{number} AS (
    INSERT INTO pgmq."q_{queue}" (vt, message)
    SELECT clock_timestamp(), event_reference(day, event_id, shop_id, key)
    FROM {rows} WHERE topic = ANY (${parameter + number}::text[]) AND shop_id IS NOT NULL
    ORDER BY event_id
    RETURNING 1
)"""
        for number, queue in enumerate(queues)
    ]
    told = [
        f"""announced_{number} AS MATERIALIZED (
    SELECT pg_notify('{WAKE_UP_CHANNEL}', '{queue}') FROM (SELECT FROM sent_{number} LIMIT 1) any_sent
)"""
        for number, queue in enumerate(queues)
        if announced
    ]
    return sent + told


def announcements(queues: Sequence[str]) -> str:
    """Return what the statement has to select for its announcements to be made: an unread query is not run."""
    return "".join(f", (SELECT count(*) FROM announced_{number})" for number in range(len(queues)))
