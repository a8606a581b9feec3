"""Messages of one key keep their order, and no shop waits for another's backlog."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from datetime import timedelta

import pytest

from sellflow.postgres.transactions import batch_transaction
from sellflow.queue.claims import extend, hand_back, take
from sellflow.queue.parking import release_stranded
from tests.conftest import Tenant
from tests.queue.conftest import Laboratory


async def test_a_later_message_of_a_key_waits_for_the_retry_of_the_first(lab: Laboratory) -> None:
    await lab.put("fail", "second", key="k")
    await lab.put("other")
    await lab.work()
    assert await lab.effects_in_order() == ["other"]
    await lab.put("third", key="k")
    await lab.work()
    assert await lab.effects_in_order() == ["other"]
    assert (await lab.waiting(), await lab.parked()) == (0, 3)

    lab.cured = True
    await lab.let_retries_come_due()
    await lab.work()
    assert await lab.effects_in_order() == ["other", "fail", "second", "third"]
    assert (await lab.waiting(), await lab.parked()) == (0, 0)


async def test_a_message_that_fails_again_still_holds_its_followers_up(lab: Laboratory) -> None:
    await lab.put("fail", "second", key="k")
    for _ in range(2):
        await lab.work()
        await lab.let_retries_come_due()
    assert await lab.effects() == []
    await lab.work()  # the third attempt is the last one; the handler's policy is to continue
    assert await lab.owner.fetchval("SELECT attempts FROM dead_letters") == 3
    assert await lab.effects() == ["second"]


async def test_a_dead_letter_lets_the_rest_of_its_key_continue_in_the_same_batch(lab: Laboratory) -> None:
    await lab.put("hopeless", "second", key="k")
    assert await lab.consumer().run_once() == 2
    assert await lab.effects() == ["second"]


async def test_a_dead_letter_of_a_strict_handler_blocks_its_key_and_no_other(
    lab: Laboratory, other_tenant: Tenant
) -> None:
    await lab.put("hopeless", "second", key="k", topic="lab.strict")
    await lab.put("free", key="other", topic="lab.strict")
    await lab.put("foreign", key="k", topic="lab.strict", shop_id=other_tenant.shop_id)
    await lab.work()
    assert await lab.effects() == ["foreign", "free"]
    await lab.put("third", key="k", topic="lab.strict")
    await lab.work()
    assert await lab.effects() == ["foreign", "free"]
    assert (await lab.waiting(), await lab.parked()) == (0, 2)


async def test_messages_without_a_key_wait_for_nobody(lab: Laboratory) -> None:
    await lab.put("fail", "second", key="")
    await lab.work()
    assert await lab.effects() == ["second"]


async def test_a_key_in_flight_with_another_worker_is_passed_over(lab: Laboratory) -> None:
    await lab.put("first", "second", key="k")
    await lab.put("other")
    (first,) = await lab.claim(1)
    assert [each.key for each in await lab.claim()] == ["other"]
    await hand_back(lab.pool, "lab", [first])
    assert [each.key for each in await lab.claim()] == ["k", "k"]


async def test_a_key_that_is_still_being_finished_is_passed_over_although_its_claim_ran_out(lab: Laboratory) -> None:
    await lab.put("first", "second", key="k")
    held = await lab.claim(1)
    await lab.let_claims_expire()
    async with lab.pool.acquire() as connection, batch_transaction(connection, [lab.tenant.shop_id]):
        assert len(await take(connection, "lab", held)) == 1
        assert await lab.claim() == []
    assert [each.key for each in await lab.claim()] == ["k"]


async def test_whoever_lost_the_first_of_a_key_does_not_take_the_second(lab: Laboratory) -> None:
    await lab.put("first", "second", key="k")
    await lab.put("other")
    slow = await lab.claim()
    await lab.let_claims_expire()
    (first,) = await lab.claim(1)
    async with lab.pool.acquire() as connection, batch_transaction(connection, [lab.tenant.shop_id]):
        assert [event.key for _, event in await take(connection, "lab", slow)] == ["other"]
    async with lab.pool.acquire() as connection, batch_transaction(connection, [lab.tenant.shop_id]):
        assert len(await take(connection, "lab", [first])) == 1


async def test_handlers_of_one_queue_keep_the_order_of_a_key_between_them(lab: Laboratory) -> None:
    await lab.put("a1", key="a")
    await lab.put("a2", key="a", topic="lab.strict")
    await lab.put("a3", key="a")
    await lab.put("b1", key="b", topic="lab.strict")
    await lab.work()
    order = await lab.effects_in_order()
    assert [word for word in order if word.startswith("a")] == ["a1", "a2", "a3"]
    assert lab.batches == [["a1"], ["b1"], ["a2"], ["a3"]]


async def test_what_was_claimed_before_is_handled_alone_without_overtaking_its_key(lab: Laboratory) -> None:
    await lab.put("a1", key="a")
    await lab.put("b1", key="b")
    await lab.claim(1)
    await lab.let_claims_expire()
    await lab.put("a2", key="a")
    await lab.put("c1", key="c")
    await lab.work()
    assert lab.batches == [["b1", "c1"], ["a1"], ["a2"]]


async def test_a_handler_has_a_retry_policy_of_its_own(lab: Laboratory) -> None:
    await lab.put("fail", topic="lab.patient")
    for _ in range(4):
        await lab.work()
        await lab.let_retries_come_due()
    assert await lab.outcomes() == {}
    assert await lab.parked() == 1


async def test_a_claim_goes_round_the_shops(lab: Laboratory, other_tenant: Tenant) -> None:
    await lab.put(*(f"mine {number}" for number in range(20)))
    await lab.put("theirs", shop_id=other_tenant.shop_id)
    assert "theirs" in [each.key for each in await lab.claim(4)]


async def test_every_shop_has_its_turn_where_a_batch_is_smaller_than_their_number(
    lab: Laboratory, other_tenant: Tenant
) -> None:
    await lab.put("a1", "a2", "a3")
    await lab.put("b1", "b2", "b3", shop_id=other_tenant.shop_id)
    consumer = lab.consumer(worker_batch_size=1)
    while await consumer.run_once():
        pass
    assert lab.batches == [["a1"], ["b1"], ["a2"], ["b2"], ["a3"], ["b3"]]


async def test_a_pause_stops_a_queue_a_shop_or_one_shop_in_one_queue(lab: Laboratory, other_tenant: Tenant) -> None:
    for queue, shop_id, left in (
        ("lab", None, []),
        (None, None, []),
        (None, other_tenant.shop_id, ["mine"]),
        ("lab", lab.tenant.shop_id, ["theirs"]),
        ("listener", None, ["mine", "theirs"]),
        ("listener", lab.tenant.shop_id, ["mine", "theirs"]),
    ):
        await lab.owner.execute("TRUNCATE pauses, pgmq.q_lab")
        await lab.put("mine")
        await lab.put("theirs", shop_id=other_tenant.shop_id)
        await lab.owner.execute("INSERT INTO pauses VALUES ($1, $2, 'a test')", queue, shop_id)
        assert [each.key for each in await lab.claim()] == left, (queue, shop_id)


@pytest.mark.parametrize(
    "message",
    ['"words"', "{}", "null", '{"day": "2026-11-22", "event_id": -1, "shop_id": 1, "key": ""}', '{"shop_id": 7}'],
)
async def test_a_message_that_is_no_reference_is_set_aside_and_the_rest_is_done(lab: Laboratory, message: str) -> None:
    await lab.owner.execute("SELECT pgmq.send('lab', $1::jsonb)", message)
    await lab.put("fine")
    await lab.work()
    assert await lab.effects() == ["fine"]
    assert await lab.owner.fetchval("SELECT error_code FROM dead_letters") == "queue.event_gone"
    assert await lab.waiting() == 0


async def test_a_claim_is_extended_while_it_is_still_ours(lab: Laboratory) -> None:
    await lab.put("a", "b")
    mine = await lab.claim(1)
    await extend(lab.pool, "lab", mine, visibility_timeout=3000)
    await lab.owner.execute("UPDATE pgmq.q_lab SET vt = vt - interval '2000 seconds'")
    assert [each.key for each in await lab.claim()] == ["b"]
    await lab.let_claims_expire()
    await lab.claim()
    await extend(lab.pool, "lab", mine, visibility_timeout=3000)
    assert await lab.owner.fetchval("SELECT max(vt) < clock_timestamp() + interval '40 seconds' FROM pgmq.q_lab")


async def test_long_work_keeps_its_claims(lab: Laboratory) -> None:
    await lab.put("slow", topic="lab.ask")
    consumer = lab.consumer(queue="outside", worker_visibility_timeout=1)
    working = asyncio.create_task(consumer.run_once())
    for _ in range(6):
        await asyncio.sleep(0.2)
        assert await lab.claim(queue="outside") == []
    await working
    assert await lab.effects() == ["answer to slow"]


async def test_calls_to_the_outside_are_recorded_with_their_acknowledgement(lab: Laboratory) -> None:
    await lab.put("a", "b", "fail", "hopeless", topic="lab.ask")
    await lab.work(queue="outside")
    assert sorted(lab.calls) == ["a", "b", "fail", "hopeless"]
    assert await lab.effects() == ["answer to a", "answer to b"]
    assert await lab.outcomes("outside") == {"a": "done", "b": "done", "hopeless": "dead"}
    assert await lab.parked() == 1


async def test_calls_of_one_key_stop_at_the_first_that_fails(lab: Laboratory) -> None:
    await lab.put("a", "fail", "after", key="k", topic="lab.ask")
    await lab.work(queue="outside")
    assert lab.calls == ["a", "fail"]
    lab.cured = True
    await lab.let_retries_come_due()
    await lab.work(queue="outside")
    assert lab.calls == ["a", "fail", "fail", "after"]
    assert await lab.effects_in_order() == ["answer to a", "answer to fail", "answer to after"]


async def test_a_call_after_one_that_is_hopeless_is_made_all_the_same(lab: Laboratory) -> None:
    await lab.put("hopeless", "after", key="k", topic="lab.ask")
    await lab.work(queue="outside")
    await lab.let_retries_come_due()
    await lab.work(queue="outside")
    assert await lab.effects() == ["answer to after"]
    assert (await lab.waiting("outside"), await lab.parked()) == (0, 0)


async def test_a_postponed_message_comes_back_later_and_did_not_fail(lab: Laboratory) -> None:
    await lab.put("postpone", "after", key="k", topic="lab.ask")
    await lab.put("other", topic="lab.ask")
    for _ in range(5):  # more often than a message may fail
        await lab.work(queue="outside")
        wait = await lab.owner.fetchval("SELECT due_at - parked_at FROM parked_messages WHERE due_at IS NOT NULL")
        assert wait > timedelta(seconds=59)
        await lab.let_retries_come_due()
    lab.cured = True
    await lab.work(queue="outside")
    assert await lab.effects_in_order() == ["answer to other", "answer to postpone", "answer to after"]
    assert await lab.owner.fetchval("SELECT count(*) FROM failed_attempts") == 0


async def test_what_is_pointless_by_now_is_done_and_no_failure(lab: Laboratory) -> None:
    await lab.put("pointless", "after", key="k", topic="lab.ask")
    for _ in range(2):
        await lab.work(queue="outside")
        await lab.let_retries_come_due()
    assert await lab.effects() == ["answer to after"]
    assert await lab.owner.fetchval("SELECT count(*) FROM outcomes WHERE outcome = 'done'") == 2
    told = await lab.owner.fetchval("SELECT detail FROM outcomes WHERE detail LIKE 'skipped%'")
    assert told == "skipped: the shop has removed the app"
    assert (await lab.waiting("outside"), await lab.parked()) == (0, 0)
    assert await lab.owner.fetchval("SELECT count(*) FROM failed_attempts") == 0


async def test_what_a_handler_wrote_of_a_failure_it_tells_of_stays(lab: Laboratory) -> None:
    await lab.put("note and fail", "fine", topic="lab.ask")
    for _ in range(3):
        await lab.work(queue="outside")
        await lab.let_retries_come_due()
    assert await lab.effects() == ["answer to fine", *["answer to note and fail"] * 3]
    assert await lab.outcomes("outside") == {"note and fail": "dead", "fine": "done"}
    assert await lab.owner.fetchval("SELECT error_message FROM dead_letters") == "noted"


async def test_a_consumer_that_is_cancelled_hands_its_claims_back(lab: Laboratory) -> None:
    await lab.put("slow", "b", topic="lab.ask")
    working = asyncio.create_task(lab.consumer(queue="outside").run_once())
    async with lab.called:
        await lab.called.wait_for(lambda: "slow" in lab.calls)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert [(each.key, each.read_ct) for each in await lab.claim(queue="outside")] == [("slow", 1), ("b", 1)]


async def test_followers_that_wait_for_nobody_are_let_go(lab: Laboratory) -> None:
    await lab.put("fail", "second", key="k")
    await lab.put("fail", "fourth", key="kept")
    await lab.work()
    await lab.owner.execute("DELETE FROM parked_messages WHERE key = 'k' AND due_at IS NOT NULL")
    assert await release_stranded(lab.owner, "lab", waited=600) == 0
    assert await release_stranded(lab.owner, "lab", waited=0) == 1
    await lab.work()
    assert await lab.effects() == ["second"]


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_fails_and_whoever_dies_each_key_is_done_in_order_and_once(lab: Laboratory, seed: int) -> None:
    """Four consumers, random faults, claims that run out, workers cancelled in the middle."""
    rng = random.Random(seed)
    keys = [f"k{number}" for number in range(12)]
    expected: dict[str, list[str]] = defaultdict(list)

    async def misbehave(_connection: object, _word: str) -> None:
        await asyncio.sleep(rng.random() * 0.002)
        if rng.random() < 0.05:
            raise RuntimeError("bad luck")

    lab._misbehave = misbehave  # type: ignore[method-assign, assignment]
    for number in range(150):
        key = rng.choice(keys)
        word = f"{key} {number}"
        expected[key].append(word)
        await lab.put(word, key=key, topic=rng.choice(["lab.work.now", "lab.strict"]))

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(_consume_and_die(lab, rng))
        group.create_task(_let_claims_expire(lab, rng))

    done = defaultdict(list)
    for word in await lab.effects_in_order():
        done[word.split()[0]].append(word)
    assert done == expected


async def _consume_and_die(lab: Laboratory, rng: random.Random) -> None:
    """Work until nothing is left, and be cancelled in the middle every now and then."""
    consumer = lab.consumer(worker_batch_size=7, retry_attempts=10_000, retry_base=0.001, worker_poll_interval=0.01)
    while await lab.left() or await lab.parked():
        working = asyncio.create_task(consumer.run_once())
        if rng.random() < 0.1:
            await asyncio.sleep(rng.random() * 0.02)
            working.cancel()
        await asyncio.wait([working])
        if not working.cancelled():
            working.result()


async def _let_claims_expire(lab: Laboratory, rng: random.Random) -> None:
    while await lab.left() or await lab.parked():
        await asyncio.sleep(rng.random() * 0.05)
        await lab.let_claims_expire()
