"""A worker that dies between any two statements delivers at least once, and under one id."""

from __future__ import annotations

from itertools import count

import pytest

from sellflow.postgres.database import UNAVAILABLE
from tests.queue.consuming import make_consumer
from tests.queue.mortality import Fate, When, mortal_pool
from tests.queue.outgoing.conftest import QUEUES, Outgoing
from tests.queue.outgoing.receiver import Receiver


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("queue", QUEUES)
async def test_a_worker_that_dies_at_any_statement_loses_no_delivery(
    outgoing: Outgoing, receiver: Receiver, queue: str, when: When
) -> None:
    await outgoing.add(receiver.url)
    for statement in count(1):
        word = f"word {statement}"
        await outgoing.emit(word)
        if queue == "outgoing_deliveries":
            await outgoing.deliver("outgoing")
        fate = Fate(statement, when)
        async with mortal_pool(outgoing.database, fate) as pool:
            consumer = make_consumer(outgoing.database, pool, outgoing.registry, queue)
            try:
                while await consumer.run_once():
                    pass
            except UNAVAILABLE:
                assert fate.is_dead
        for each in QUEUES:
            await outgoing.owner.execute(f"UPDATE pgmq.q_{each} SET vt = clock_timestamp()")
        await outgoing.deliver()
        arrived = [request for request in receiver.requests if request.data["word"] == word]
        assert 1 <= len(arrived) <= 2, (statement, when)
        assert len({request.webhook_id for request in arrived}) == 1
        assert set(await outgoing.states()) == {"delivered"}
        if not fate.is_dead:
            break
    assert statement > 6, "fewer statements than a batch is known to have"
    attempts = await outgoing.owner.fetch("SELECT count(*) AS n FROM endpoint_attempts GROUP BY delivery_id")
    assert {row["n"] for row in attempts} == {1}
    repeated = len(receiver.requests) - len({request.webhook_id for request in receiver.requests})
    assert (repeated > 0) == (queue == "outgoing_deliveries"), "no death fell between the POST and its commit"
