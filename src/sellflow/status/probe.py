"""Asking something that may hang, such as a database, without hanging oneself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from sellflow.errors import DatabaseUnavailableError

T = TypeVar("T")

#: Seconds that whoever asks is kept waiting at most.
PATIENCE = 2.0


class Probe(Generic[T]):
    """Puts a question to the database, one at a time, and waits only so long for its answer.

    What hangs is neither cancelled (the driver waits for a cancelled statement as long as for any other) nor asked
    again beside itself: it holds one connection at most.
    """

    def __init__(self, ask: Callable[[], Awaitable[T]]) -> None:
        self._ask = ask
        self._task: asyncio.Task[T] | None = None

    async def answer(self) -> T:
        """Return the answer to a question put now, or to the one that hangs.

        Raises
        ------
        DatabaseUnavailableError
            If there is none within `PATIENCE` seconds.
        """
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._asked())
            self._task.add_done_callback(_read)
        await asyncio.wait([self._task], timeout=PATIENCE)
        if not self._task.done():
            raise DatabaseUnavailableError(f"the database did not answer within {PATIENCE:g} seconds")
        return self._task.result()

    async def _asked(self) -> T:
        return await self._ask()


def _read(task: asyncio.Task[T]) -> None:
    """Look at a failure that nobody may have waited for."""
    if not task.cancelled():
        task.exception()
