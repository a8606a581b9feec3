"""How many calls are under way to each endpoint: one that is slow must not take the place of the others."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sellflow.errors import PostponedError

#: Seconds that a delivery waits for its endpoint to finish another, and for which it is put off after that.
PATIENCE = 1.0
PUT_OFF = 2.0


class Lanes:
    """A lane to each endpoint, wide enough for so many calls at a time."""

    def __init__(self, width: int, *, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._lanes: dict[int, _Lane] = defaultdict(lambda: _Lane(width))

    @asynccontextmanager
    async def enter(self, endpoint_id: int) -> AsyncIterator[None]:
        """Hold a place in the lane for as long as the block runs.

        Raises
        ------
        PostponedError
            If none came free in good time. Until one does, nobody else waits for it at all.
        """
        lane = self._lanes[endpoint_id]
        if lane.places.locked() and lane.is_stuck:
            raise _put_off(endpoint_id)
        try:
            async with asyncio.timeout(self._patience):
                await lane.places.acquire()
        except TimeoutError:
            lane.is_stuck = True
            raise _put_off(endpoint_id) from None
        try:
            yield
        finally:
            lane.places.release()
            lane.is_stuck = False


class _Lane:
    def __init__(self, width: int) -> None:
        self.places = asyncio.Semaphore(width)
        self.is_stuck = False


def _put_off(endpoint_id: int) -> PostponedError:
    return PostponedError(f"endpoint {endpoint_id} is slow and has enough under way", seconds=PUT_OFF)
