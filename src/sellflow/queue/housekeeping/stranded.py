"""Lets go of parked messages that wait for nobody: what a change by hand may leave behind."""

from __future__ import annotations

import structlog
from prometheus_client import Counter

from sellflow.postgres.database import SessionConnection
from sellflow.queue.jobs import Job
from sellflow.queue.parking import release_stranded
from sellflow.queue.registry import Registry

log = structlog.get_logger(__name__)

released_total = Counter("sellflow_stranded_released_total", "Parked messages that waited for nobody.", ["queue"])


def release_stranded_messages(registry: Registry) -> Job:
    """Return the job."""

    async def run(connection: SessionConnection) -> str:
        found = {queue: await release_stranded(connection, queue) for queue in registry.subscriptions}
        for queue, messages in found.items():
            released_total.labels(queue).inc(messages)
            if messages:
                log.warning("housekeeping.stranded_released", queue=queue, messages=messages)
        return f"{sum(found.values())} messages released"

    return Job("release_stranded", 300, run)
