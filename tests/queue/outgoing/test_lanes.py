"""A slow endpoint takes no place that others need."""

from __future__ import annotations

import asyncio

import pytest

from sellflow.errors import PostponedError
from sellflow.queue.outgoing.lanes import Lanes
from tests.queue.outgoing.conftest import Outgoing
from tests.queue.outgoing.receiver import PATIENCE, Receiver, never, receiving


async def test_a_full_lane_is_waited_for_once_and_then_not_until_a_place_comes_free() -> None:
    lanes = Lanes(1, patience=0.05)
    done = asyncio.Event()
    inside = asyncio.Event()

    async def occupy() -> None:
        async with lanes.enter(1):
            inside.set()
            await done.wait()

    task = asyncio.create_task(occupy())
    await inside.wait()
    for _ in range(2):
        with pytest.raises(PostponedError):
            async with lanes.enter(1):
                pass
    async with lanes.enter(2):  # another endpoint's lane is free
        pass
    done.set()
    await task
    async with lanes.enter(1):
        pass


async def test_whoever_waits_gets_the_place_that_comes_free() -> None:
    lanes = Lanes(1, patience=PATIENCE)
    order = []
    async with asyncio.TaskGroup() as group:
        for number in range(3):

            async def work(number: int = number) -> None:
                async with lanes.enter(1):
                    order.append(number)
                    await asyncio.sleep(0)

            group.create_task(work())
    assert order == [0, 1, 2]


async def test_an_error_inside_gives_the_place_back() -> None:
    lanes = Lanes(1, patience=0.05)
    with pytest.raises(ZeroDivisionError):
        async with lanes.enter(1):
            raise ZeroDivisionError
    async with lanes.enter(1):
        pass


async def test_a_silent_endpoint_with_a_backlog_lets_others_through(outgoing: Outgoing, receiver: Receiver) -> None:
    receiver.answering = never
    async with receiving() as quick:
        await outgoing.add(receiver.url, "loyalty.points.earned")
        await outgoing.add(quick.url, "loyalty.points.clawed_back")
        await outgoing.emit(*(f"slow {number}" for number in range(40)))
        await outgoing.emit("quick", topic="loyalty.points.clawed_back")
        await outgoing.deliver("outgoing")
        working = asyncio.create_task(outgoing.deliver("outgoing_deliveries"))
        # While the silent one holds its places, and long before its 40 deliveries have timed out in turn.
        await quick.wait_for(1)
        assert len(receiver.requests) <= 4
        working.cancel()
        await asyncio.wait([working])
