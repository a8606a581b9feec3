"""Hands webhooks that came before their shop to the queues once it is installed."""

from __future__ import annotations

from sellflow.postgres.database import SessionConnection
from sellflow.queue.event_log import adopt
from sellflow.queue.jobs import Job
from sellflow.queue.registry import Registry


def adopt_events(registry: Registry) -> Job:
    """Return the job. `sellflow shops add` adopts at once; this catches what was on its way in that moment."""

    async def run(connection: SessionConnection) -> str:
        return f"{await adopt(connection, registry)} webhooks adopted"

    return Job("adopt_events", 15, run)
