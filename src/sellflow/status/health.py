"""Whether a process is alive, and ready: what it says of itself when it is asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from sellflow.errors import SellflowError
from sellflow.postgres.database import UNAVAILABLE
from sellflow.status.probe import Probe

#: Raises when the database does not answer, or is not one to work with.
Check = Callable[[], Awaitable[object]]


class Loop(Protocol):
    """Something that goes round and round as long as its process is well."""

    name: str
    #: When it last got a step further, on the monotonic clock.
    progressed_at: float


class Health:
    """How a process is.

    Alive means that starting it anew would not help: its event loop answers, and each of its loops got a step further
    within `stuck_after` seconds, or could not because of the database. Ready means that work may be sent to it: the
    database answers, its schema is the right one, and it was not told to stop.
    """

    def __init__(
        self, check: Check, *, stop: asyncio.Event, loops: Sequence[Loop] = (), stuck_after: float = float("inf")
    ) -> None:
        self._database = Probe(check)
        self._stop = stop
        self._loops = loops
        self._stuck_after = stuck_after
        #: When the database was last seen away: no loop is blamed for the time until then.
        self._away_at = float("-inf")

    async def why_dead(self) -> str | None:
        """Return why the process should be started anew, or None while it lives."""
        stuck = [loop for loop in self._loops if self._is_stuck(loop)]
        if not stuck or await self._why_no_database():
            return None
        names = ", ".join(sorted({loop.name for loop in stuck}))
        return f"no progress for {self._stuck_after:g} seconds, although the database answers: {names}"

    async def why_not_ready(self) -> str | None:
        """Return why no work should be sent to the process now, or None when it is ready."""
        return "it is stopping" if self._stop.is_set() else await self._why_no_database()

    async def _why_no_database(self) -> str | None:
        """Return why the database cannot be worked with, or None."""
        try:
            await self._database.answer()
        except (SellflowError, *UNAVAILABLE) as error:
            self._away_at = time.monotonic()
            return str(error) or repr(error)
        return None

    def _is_stuck(self, loop: Loop) -> bool:
        return time.monotonic() - max(loop.progressed_at, self._away_at) > self._stuck_after
