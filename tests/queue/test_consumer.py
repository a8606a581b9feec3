"""A consumer's promises: effects, emitted events and acknowledgement together, once, whatever goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

import pytest

from sellflow.postgres.transactions import batch_transaction
from sellflow.queue.claims import hand_back, take
from sellflow.queue.consumer import Consumer
from sellflow.queue.event_log import adopt
from sellflow.queue.registry import Registry
from sellflow.queue.wakeups import WakeUps
from sellflow.shops.store import install_shop
from tests.queue.conftest import DeathError, Laboratory

PATIENCE = 10


async def test_a_batch_is_handled_at_once_in_the_order_it_came(lab: Laboratory) -> None:
    await lab.put("c", "a", "b")
    assert await lab.consumer().run_once() == 3
    assert lab.batches == [["c", "a", "b"]]
    assert await lab.effects() == ["a", "b", "c"]
    assert await lab.outcomes() == {"a": "done", "b": "done", "c": "done"}
    assert await lab.waiting() == 0
    details = await lab.owner.fetch("SELECT DISTINCT handler, detail, attempts FROM outcomes ORDER BY detail")
    assert [tuple(row) for row in details] == [("work", f"did {word}", 1) for word in "abc"]


async def test_a_consumer_claims_no_more_than_a_batch(lab: Laboratory) -> None:
    await lab.put(*"abcde")
    consumer = lab.consumer(worker_batch_size=2)
    assert [await consumer.run_once() for _ in range(4)] == [2, 2, 1, 0]


async def test_an_expired_claim_acknowledges_nothing(lab: Laboratory) -> None:
    await lab.put("a", "b")
    slow = await lab.claim()
    assert await lab.claim() == []
    await lab.let_claims_expire()
    fast = await lab.claim()
    assert [each.msg_id for each in fast] == [each.msg_id for each in slow]

    async with lab.pool.acquire() as connection, batch_transaction(connection, [lab.tenant.shop_id]):
        assert await take(connection, "lab", slow) == []
    assert await lab.waiting() == 2
    async with lab.pool.acquire() as connection, batch_transaction(connection, [lab.tenant.shop_id]):
        taken = await take(connection, "lab", fast)
    assert [event.payload for _, event in taken] == [b"a", b"b"]
    assert await lab.waiting() == 0


async def test_two_consumers_that_take_the_same_claims_at_once_share_nothing(lab: Laboratory) -> None:
    await lab.put(*"abcdefgh")
    claims = await lab.claim()

    async def take_in(order: int) -> list[bytes]:
        async with lab.pool.acquire() as connection, batch_transaction(connection, [lab.tenant.shop_id]):
            return [event.payload for _, event in await take(connection, "lab", claims[::order])]

    one, other = await asyncio.gather(take_in(1), take_in(-1))
    assert sorted(one + other) == [letter.encode() for letter in "abcdefgh"]


async def test_handing_back_frees_only_claims_that_are_still_ours(lab: Laboratory) -> None:
    await lab.put("a")
    stale = await lab.claim()
    await lab.let_claims_expire()
    current = await lab.claim()
    await hand_back(lab.pool, "lab", stale)
    assert await lab.claim() == []
    await hand_back(lab.pool, "lab", current)
    assert len(await lab.claim()) == 1


async def test_a_handler_that_fails_after_writing_leaves_nothing_behind(lab: Laboratory) -> None:
    await lab.put("say and fail")
    await lab.consumer().run_once()
    assert lab.batches == [["say and fail"]]
    assert await lab.effects() == []
    assert await lab.waiting("listener") == 0
    assert await lab.owner.fetchval("SELECT count(*) FROM events WHERE topic = 'lab.said'") == 0
    assert await lab.parked() == 1


@pytest.mark.parametrize("poison", ["fail", "bad sql", "hopeless", "unreadable"])
async def test_a_poisonous_message_is_set_apart_and_the_rest_of_its_batch_is_done(lab: Laboratory, poison: str) -> None:
    good = [f"good {number:02}" for number in range(50)]
    await lab.put(*good[:17], poison, *good[17:])
    assert await lab.consumer().run_once() == 51
    assert await lab.effects() == good
    done = [word for word, outcome in (await lab.outcomes()).items() if outcome == "done"]
    assert sorted(done) == good
    assert await lab.waiting() == 0
    assert len(lab.batches) <= 15  # halving, not one by one


async def test_what_was_emitted_by_a_half_that_failed_is_said_once(lab: Laboratory) -> None:
    await lab.put("say a", "say b", "fail", "say c")
    await lab.consumer().run_once()
    said = await lab.owner.fetch("SELECT convert_from(payload, 'utf8') AS word FROM events WHERE topic = 'lab.said'")
    assert sorted(row["word"] for row in said) == ["a", "b", "c"]
    assert await lab.waiting("listener") == 3


async def test_an_emitted_event_reaches_the_queue_that_subscribes_to_it(lab: Laboratory) -> None:
    await lab.put("say hello")
    await lab.consumer().run_once()
    assert await lab.waiting("listener") == 1
    await lab.consumer(queue="listener").run_once()
    assert await lab.effects() == ["hello", "say hello"]


async def test_a_permanent_error_is_a_dead_letter_at_once(lab: Laboratory) -> None:
    await lab.put("hopeless")
    await lab.consumer().run_once()
    letter = await lab.owner.fetchrow("SELECT * FROM dead_letters")
    assert letter is not None
    assert (letter["queue"], letter["topic"], letter["key"]) == ("lab", "lab.work.now", "hopeless")
    assert (letter["handler"], letter["attempts"], letter["shop_id"]) == ("work", 1, lab.tenant.shop_id)
    assert (letter["error_code"], letter["error_class"]) == ("lab.hopeless", "HopelessError")
    assert letter["error_message"] == "not ever \\0"
    assert "in _misbehave" in letter["stack_trace"]
    assert await lab.outcomes() == {"hopeless": "dead"}
    assert (await lab.waiting(), await lab.parked()) == (0, 0)


async def test_a_stack_trace_tells_of_its_own_message_alone(lab: Laboratory) -> None:
    """Halves of a batch that failed are applied again: what they raise is not chained to what was raised before."""
    await lab.put("fail", "hopeless a", "say and fail", "hopeless b")
    await lab.consumer().run_once()
    traces = await lab.owner.fetch("SELECT stack_trace FROM dead_letters")
    assert len(traces) == 2
    for row in traces:
        assert row["stack_trace"].count("Traceback") == 1
        assert "not today" not in row["stack_trace"]


async def test_a_topic_without_handler_is_a_dead_letter(lab: Laboratory) -> None:
    await lab.owner.execute("SELECT pgmq.bind_topic('lab.unheard', 'lab')")
    await lab.put("who", topic="lab.unheard")
    await lab.consumer().run_once()
    assert await lab.owner.fetchval("SELECT error_class FROM dead_letters") == "UnhandledTopicError"


async def test_a_failure_is_parked_and_tried_again_when_it_is_due(lab: Laboratory) -> None:
    await lab.put("fail")
    await lab.consumer().run_once()
    assert (await lab.waiting(), await lab.parked()) == (0, 1)
    attempt = await lab.owner.fetchrow("SELECT * FROM failed_attempts")
    assert attempt is not None
    assert (attempt["attempt"], attempt["error_class"], attempt["error_code"]) == (1, "RuntimeError", "handler.error")
    assert attempt["error_message"] == "not today"
    assert attempt["retry_at"] >= attempt["failed_at"].replace(microsecond=0)

    await lab.owner.execute("UPDATE parked_messages SET due_at = clock_timestamp() + interval '1 hour'")
    assert await lab.consumer().run_once() == 0
    await lab.let_retries_come_due()
    lab.cured = True
    assert await lab.consumer().run_once() == 1
    assert await lab.effects() == ["fail"]
    assert await lab.outcomes() == {"fail": "done"}
    assert await lab.owner.fetchval("SELECT attempts FROM outcomes") == 2
    assert await lab.parked() == 0


async def test_after_its_last_attempt_a_message_is_a_dead_letter_with_its_history(lab: Laboratory) -> None:
    await lab.put("fail")
    for _ in range(3):
        assert await lab.consumer().run_once() == 1
        await lab.let_retries_come_due()
    assert await lab.consumer().run_once() == 0
    letter = await lab.owner.fetchrow("SELECT * FROM dead_letters")
    assert letter is not None
    assert (letter["attempts"], letter["error_class"], letter["error_message"]) == (3, "RuntimeError", "not today")
    assert "RuntimeError: not today" in letter["stack_trace"]
    attempts = await lab.owner.fetch("SELECT attempt, retry_at IS NULL AS is_last FROM failed_attempts ORDER BY 1")
    assert [tuple(row) for row in attempts] == [(1, False), (2, False), (3, True)]
    assert await lab.outcomes() == {"fail": "dead"}
    assert await lab.effects() == []


async def test_a_message_that_was_claimed_again_and_again_and_never_finished_is_a_dead_letter(lab: Laboratory) -> None:
    await lab.put("kills its worker")
    for _ in range(3):
        assert len(await lab.claim(1)) == 1
        await lab.let_claims_expire()
    await lab.consumer().run_once()
    assert lab.batches == []
    letter = await lab.owner.fetchrow("SELECT error_class, error_message FROM dead_letters")
    assert letter is not None
    assert letter["error_class"] == "WorkerDiedError"
    assert "claimed 4 times" in letter["error_message"]


@pytest.mark.parametrize("attempts", [2, 3, 8])
async def test_a_message_that_kills_its_worker_takes_no_other_with_it(lab: Laboratory, attempts: int) -> None:
    innocent = [f"innocent {number}" for number in range(45)]
    await lab.put(*innocent[:20], "kill", *innocent[20:])
    deaths = 0
    while await lab.waiting():
        try:
            await lab.consumer(retry_attempts=attempts).run_once()
        except DeathError:
            deaths += 1
            await lab.let_claims_expire()
    assert deaths == attempts
    assert await lab.outcomes() == dict.fromkeys(innocent, "done") | {"kill": "dead"}
    assert await lab.effects() == sorted(innocent)
    assert await lab.owner.fetchval("SELECT error_class FROM dead_letters") == "WorkerDiedError"


@pytest.mark.parametrize("collision", ["deadlock", "serialization"])
async def test_a_collision_is_handed_back_whole_and_is_no_failure(lab: Laboratory, collision: str) -> None:
    await lab.put("a", collision, "b")
    for _ in range(5):  # more often than a message may fail
        assert await lab.consumer().run_once() == 3
        assert await lab.effects() == []
        assert await lab.waiting() == 3
    lab.cured = True
    assert await lab.consumer().run_once() == 3
    assert set((await lab.outcomes()).values()) == {"done"}
    assert await lab.effects() == sorted(["a", collision, "b"])
    assert await lab.owner.fetchval("SELECT count(*) FROM failed_attempts") == 0


async def test_a_message_whose_event_is_gone_is_set_aside_and_the_rest_is_done(lab: Laboratory) -> None:
    await lab.put("a", "erased", "b")
    await lab.owner.execute("DELETE FROM events WHERE key = 'erased'")
    await lab.consumer().run_once()
    assert await lab.effects() == ["a", "b"]
    assert await lab.owner.fetchval("SELECT error_class FROM dead_letters") == "EventGoneError"
    assert await lab.waiting() == 0


async def test_a_connection_lost_in_the_middle_of_a_batch_loses_nothing(lab: Laboratory) -> None:
    await lab.put("a", "cut off")
    async with running(lab, worker_poll_interval=0.05):
        await until(lab, lambda: len(lab.batches) == 1)
        assert await lab.effects() == []
        lab.cured = True
        # Nobody waits for the claims to run out: the consumer knows what it had in hand.
        await until(lab, lambda: sorted(word for words in lab.batches[1:] for word in words) == ["a", "cut off"])
    assert await lab.effects() == ["a", "cut off"]


@asynccontextmanager
async def running(
    lab: Laboratory, *, listening: bool = False, worker_poll_interval: float, wake_up: asyncio.Event | None = None
) -> AsyncIterator[Consumer]:
    """Run a consumer, with or without a listener that wakes it up."""
    wake_ups = WakeUps(lab.database)
    if wake_up:
        wake_ups._events["lab"] = wake_up
    consumer = lab.consumer(wake_ups=wake_ups, worker_poll_interval=worker_poll_interval)
    tasks = [asyncio.create_task(consumer.run())]
    if listening:
        tasks.append(asyncio.create_task(wake_ups.listen()))
    try:
        yield consumer
    finally:
        consumer.stop()
        async with asyncio.timeout(PATIENCE):
            await tasks[0]
        for task in tasks[1:]:
            task.cancel()
        await asyncio.gather(*tasks[1:], return_exceptions=True)


async def until(lab: Laboratory, reached: object) -> None:
    """Wait until a claim about the laboratory's batches holds."""
    assert callable(reached)
    async with asyncio.timeout(PATIENCE), lab.handled:
        await lab.handled.wait_for(reached)


class Watched(asyncio.Event):
    """A wake-up that shows when somebody begins to wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.awaited = asyncio.Event()

    async def wait(self) -> Literal[True]:
        self.awaited.set()
        return await super().wait()


async def test_a_notification_wakes_the_consumer_long_before_it_would_look(lab: Laboratory) -> None:
    wake_up = Watched()
    async with running(lab, listening=True, worker_poll_interval=60.0, wake_up=wake_up):
        for number in range(1, 6):
            async with asyncio.timeout(PATIENCE):
                await wake_up.awaited.wait()
            wake_up.awaited.clear()
            await lab.put(f"message {number}")
            await until(lab, lambda number=number: len(lab.batches) == number)


async def test_without_notifications_the_consumer_looks_by_itself(lab: Laboratory) -> None:
    async with running(lab, worker_poll_interval=0.02):
        for number in range(1, 4):
            await lab.put(f"message {number}")
            await until(lab, lambda number=number: len(lab.batches) == number)


async def test_a_consumer_outlives_all_of_its_connections(lab: Laboratory) -> None:
    async with running(lab, listening=True, worker_poll_interval=0.05):
        for number in range(1, 4):
            await lab.put(f"message {number}")
            await until(lab, lambda number=number: len(lab.batches) >= number)
            ended = await lab.owner.fetchval(
                """
                SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity
                WHERE usename = 'sellflow_worker' AND datname = current_database()
                """
            )
            assert ended > 0
            # A batch may have been under way when its connection went: then it is handled by the next one.
            async with asyncio.timeout(PATIENCE):
                while await lab.waiting():
                    await lab.let_claims_expire()
                    await asyncio.sleep(0.02)
    assert await lab.effects() == ["message 1", "message 2", "message 3"]


async def test_adopting_twice_queues_once(lab: Laboratory, registry: Registry) -> None:
    await lab.owner.execute(
        """
        INSERT INTO events (day, event_id, app_id, shop_domain, topic, key, webhook_id, payload)
        SELECT (now() AT TIME ZONE 'UTC')::date, nextval('event_ids'), $1, 'new.myshopify.com', t, '', 'w' || n, '{}'
        FROM (VALUES (1, 'lab.work.now'), (2, 'lab.work.now'), (3, 'nobody.declared.this')) AS v (n, t)
        """,
        lab.tenant.app.app_id,
    )
    assert await adopt(lab.owner, lab.registry) == 0
    await install_shop(lab.owner, app_id=lab.tenant.app.app_id, domain="new.myshopify.com", currency="EUR")
    assert await adopt(lab.owner, lab.registry) == 3
    assert await adopt(lab.owner, lab.registry) == 0
    assert await lab.waiting() == 2
