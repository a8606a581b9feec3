"""Tells consumers at once that their queue has messages; polling remains the fallback."""

from __future__ import annotations

import asyncio
from collections import defaultdict

import structlog

from sellflow.errors import DatabaseUnavailableError
from sellflow.postgres.database import UNAVAILABLE, Database, Login, close_connection
from sellflow.queue.routing import WAKE_UP_CHANNEL

log = structlog.get_logger(__name__)

LONGEST_PAUSE = 5.0


class WakeUps:
    """One LISTEN connection for all consumers of a process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._events: dict[str, asyncio.Event] = defaultdict(asyncio.Event)

    def event(self, queue: str) -> asyncio.Event:
        """Return the event that is set whenever `queue` is announced."""
        return self._events[queue]

    async def listen(self) -> None:
        """Listen until cancelled, opening the connection anew whenever it is lost."""
        pause = 0.1
        while True:
            try:
                await self._listen_once()
                pause = 0.1
            except (DatabaseUnavailableError, *UNAVAILABLE) as error:
                log.warning("queue.listener_lost", error=str(error), retry_in=pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _listen_once(self) -> None:
        lost = asyncio.Event()
        connection = await self._database.connect(Login.WORKER, purpose="worker listener")
        try:
            connection.add_termination_listener(lambda _: lost.set())
            await connection.add_listener(WAKE_UP_CHANNEL, self._announced)
            # Whatever was announced while nobody listened.
            for event in self._events.values():
                event.set()
            await lost.wait()
        finally:
            await close_connection(connection)

    def _announced(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        if payload in self._events:
            self._events[str(payload)].set()
