"""Resolving dead letters: each replayed message takes effect once, in its old place, whoever else is at work."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from itertools import count

import pytest

from sellflow.postgres.database import UNAVAILABLE, Login, Pool, close_pool
from sellflow.queue import replay as replay_module
from sellflow.queue.dead_letters import LetterFilter, show_letter
from sellflow.queue.registry import Registry
from sellflow.queue.replay import Decision, Resolution, batch_size, discard, replay, resolve_many
from sellflow.queue.topics import DEAD_LETTER_TOPIC, Subscription
from tests.queue.conftest import Laboratory
from tests.queue.mortality import Fate, When, mortal_pool

DECISION = Decision(by="tester", reason="a test")


async def letters(lab: Laboratory) -> dict[str, int]:
    """The ids of all dead letters, by the word of their message."""
    rows = await lab.owner.fetch(
        "SELECT convert_from(e.payload, 'utf8') AS word, d.dead_letter_id "
        "FROM dead_letters d JOIN events e USING (day, event_id)"
    )
    return {row["word"]: row["dead_letter_id"] for row in rows}


async def states(lab: Laboratory) -> list[str]:
    return [row["state"] for row in await lab.owner.fetch("SELECT state FROM dead_letters ORDER BY dead_letter_id")]


async def replayed(lab: Laboratory, *ids: int) -> Resolution:
    async with lab.owner.transaction():
        return await replay(lab.owner, ids, DECISION)


async def discarded(lab: Laboratory, *ids: int) -> Resolution:
    async with lab.owner.transaction():
        return await discard(lab.owner, ids, DECISION)


async def test_a_replayed_letter_is_handled_and_its_outcome_is_told_anew(lab: Laboratory) -> None:
    await lab.put("hopeless")
    await lab.work()
    [letter] = (await letters(lab)).values()
    assert (await replayed(lab, letter)).resolved == [letter]
    assert await states(lab) == ["replayed"]
    assert await lab.outcomes() == {}, "a message that is on its way again has not ended"
    lab.cured = True
    await lab.work()
    assert await lab.outcomes() == {"hopeless": "done"}
    assert await lab.effects() == ["hopeless"]
    story = await show_letter(lab.owner, letter)
    assert (story.letter.state, story.letter.resolved_by, story.letter.reason) == ("replayed", "tester", "a test")


async def test_replaying_twice_puts_one_message_back(lab: Laboratory) -> None:
    await lab.put("hopeless")
    await lab.work()
    [letter] = (await letters(lab)).values()
    await replayed(lab, letter)
    again = await replayed(lab, letter)
    assert (again.resolved, [each.code for each in again.refused]) == ([], ["dead_letter.resolved"])
    assert await lab.waiting() == 1


async def test_a_letter_that_fails_again_is_the_same_letter_with_another_round_of_attempts(lab: Laboratory) -> None:
    await lab.put("fail")
    for _ in range(3):
        await lab.work()
        await lab.let_retries_come_due()
    [letter] = (await letters(lab)).values()
    first = (await show_letter(lab.owner, letter)).letter
    await replayed(lab, letter)
    for _ in range(3):
        assert await states(lab) == ["replayed"]
        await lab.work()
        await lab.let_retries_come_due()
    story = await show_letter(lab.owner, letter)
    assert list((await letters(lab)).values()) == [letter]
    assert (story.letter.state, story.letter.replays, story.letter.resolved_by) == ("waiting", 1, "")
    assert (story.letter.resolved_at, story.letter.attempts) == (None, 3)
    assert story.letter.first_failed_at == first.first_failed_at
    assert story.letter.failed_at > first.failed_at
    assert [(each.replay, each.attempt) for each in story.attempts] == [(n, m) for n in (0, 1) for m in (1, 2, 3)]
    assert await lab.outcomes() == {"fail": "dead"}


async def test_what_waits_behind_a_replayed_letter_follows_it_in_order(lab: Laboratory) -> None:
    await lab.put("hopeless", "second", "third", key="k", topic="lab.strict")
    await lab.work()
    assert (await lab.effects(), await lab.parked()) == ([], 2)
    await lab.put("fourth", key="k", topic="lab.strict")
    lab.cured = True
    await replayed(lab, *(await letters(lab)).values())
    await lab.work()
    assert await lab.effects_in_order() == ["hopeless", "second", "third", "fourth"]
    assert (await lab.waiting(), await lab.parked()) == (0, 0)


async def test_what_waits_behind_a_letter_that_fails_again_goes_on_waiting(lab: Laboratory) -> None:
    await lab.put("hopeless", "second", key="k", topic="lab.strict")
    await lab.work()
    await replayed(lab, *(await letters(lab)).values())
    await lab.work()
    assert (await lab.effects(), await lab.waiting(), await lab.parked()) == ([], 0, 1)
    assert await states(lab) == ["waiting"]


async def test_what_waits_behind_a_discarded_letter_goes_on_without_it(lab: Laboratory) -> None:
    await lab.put("hopeless", "second", "third", key="k", topic="lab.strict")
    await lab.put("hopeless", "kept back", key="other", topic="lab.strict")
    await lab.work()
    first = min((await lab.owner.fetch("SELECT dead_letter_id FROM dead_letters WHERE key = 'k'"))[0])
    assert (await discarded(lab, first)).resolved == [first]
    await lab.work()
    assert await lab.effects_in_order() == ["second", "third"]
    assert await lab.parked() == 1
    assert [each.code for each in (await replayed(lab, first)).refused] == ["dead_letter.resolved"]
    assert [each.code for each in (await discarded(lab, first)).refused] == ["dead_letter.resolved"]
    story = await show_letter(lab.owner, first)
    assert (story.letter.state, story.letter.resolved_by, story.letter.reason) == ("discarded", "tester", "a test")
    assert (await lab.outcomes())["k"] == "done", "the later messages of its key"


async def test_a_letter_whose_event_is_gone_is_kept_and_the_others_are_replayed(lab: Laboratory) -> None:
    await lab.put("hopeless", key="kept")
    await lab.put("hopeless", key="erased")
    await lab.work()
    await lab.owner.execute("DELETE FROM events WHERE key = 'erased'")
    rows = await lab.owner.fetch("SELECT dead_letter_id, key FROM dead_letters")
    ids = {row["key"]: row["dead_letter_id"] for row in rows}
    resolution = await replayed(lab, *ids.values(), 4711)
    assert resolution.resolved == [ids["kept"]]
    assert [(each.dead_letter_id, each.code) for each in resolution.refused] == [
        (ids["erased"], "queue.event_gone"),
        (4711, "not_found"),
    ]
    assert "the event log holds its event" in resolution.refused[0].message
    assert await lab.owner.fetchval("SELECT state FROM dead_letters WHERE key = 'erased'") == "waiting"
    assert (await discarded(lab, ids["erased"])).resolved == [ids["erased"]]


async def test_a_letter_whose_place_is_taken_is_kept(lab: Laboratory) -> None:
    await lab.put("hopeless")
    await lab.work()
    [letter] = (await letters(lab)).values()
    await lab.put("another")
    await lab.owner.execute("UPDATE dead_letters SET msg_id = (SELECT max(msg_id) FROM pgmq.q_lab)")
    resolution = await replayed(lab, letter)
    assert (resolution.resolved, [each.code for each in resolution.refused]) == ([], ["queue.place_taken"])
    assert (await states(lab), await lab.waiting()) == (["waiting"], 1)
    assert await lab.outcomes() == {"hopeless": "dead"}


async def test_the_dead_letter_and_its_notice_appear_with_the_commit_of_the_last_failure(lab: Laboratory) -> None:
    notices = Subscription("notices")
    notices.handler(DEAD_LETTER_TOPIC, parse=lab._parse, name="note")(lab._apply)
    lab.registry = Registry([*lab.registry.subscriptions.values(), notices])
    await lab.prepare_queues()
    await lab.put("fail")
    for attempt in (1, 2, 3):
        assert (await states(lab), await lab.waiting("notices")) == ([], 0)
        assert await lab.consumer().run_once() == 1, f"attempt {attempt}"
        await lab.let_retries_come_due()
    row = await lab.owner.fetchrow(
        """
        SELECT d.state, d.xmin = e.xmin AS in_the_same_commit, d.xmin = q.xmin AS queued_in_the_same_commit
        FROM dead_letters d, events e, pgmq.q_notices q
        WHERE e.topic = $1 AND (q.message ->> 'event_id')::bigint = e.event_id
        """,
        DEAD_LETTER_TOPIC,
    )
    assert row is not None
    assert tuple(row) == ("waiting", True, True)


async def test_many_are_replayed_page_by_page_and_a_second_run_finds_nothing(
    lab: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay_module, "MOST_AT_ONCE", 7)
    await lab.put(*["hopeless"] * 30)
    await lab.put("hopeless", key="another")
    await lab.work()
    lab.cured = True
    batches: list[int] = []

    async def run(limit: int | None) -> Resolution:
        return await resolve_many(
            lab.owner,
            LetterFilter(key="hopeless"),
            replay,
            DECISION,
            rate=None,
            limit=limit,
            stop=asyncio.Event(),
            progress=lambda batch: batches.append(len(batch.resolved)),
        )

    assert len((await run(10)).resolved) == 10
    assert len((await run(None)).resolved) == 20
    assert len((await run(None)).resolved) == 0
    assert batches == [7, 3, 7, 7, 6]
    await lab.work()
    assert await lab.effects() == ["hopeless"] * 30
    assert sorted(await states(lab)) == ["replayed"] * 30 + ["waiting"]


async def test_a_run_that_is_stopped_leaves_whole_batches_and_is_resumed(lab: Laboratory) -> None:
    await lab.put(*["hopeless"] * 10)
    await lab.work()
    stop = asyncio.Event()
    seen: list[int] = []

    def progress(batch: Resolution) -> None:
        seen.extend(batch.resolved)
        if len(seen) == 4:
            stop.set()

    first = await resolve_many(lab.owner, LetterFilter(), replay, DECISION, rate=1000, stop=stop, progress=progress)
    assert first.resolved == seen
    lab.cured = True
    second = await resolve_many(
        lab.owner, LetterFilter(), replay, DECISION, rate=1000, stop=asyncio.Event(), progress=lambda _: None
    )
    assert len(first.resolved) + len(second.resolved) == 10
    await lab.work()
    assert await lab.effects() == ["hopeless"] * 10


async def test_what_fails_again_during_a_run_is_not_replayed_by_it_again(lab: Laboratory) -> None:
    await lab.put(*["hopeless"] * 3)
    await lab.work()
    rounds = 0

    async def replay_and_fail(connection: object, ids: object, decision: Decision) -> Resolution:
        return await replay(lab.owner, ids, decision)  # type: ignore[arg-type]

    def progress(_: Resolution) -> None:
        nonlocal rounds
        rounds += 1

    run = resolve_many(
        lab.owner, LetterFilter(), replay_and_fail, DECISION, rate=4, stop=asyncio.Event(), progress=progress
    )
    task = asyncio.create_task(run)
    while not task.done():
        await lab.consumer(worker_poll_interval=0.01).run_once()
        await asyncio.sleep(0)
    assert len(task.result().resolved) == rounds == 3
    await lab.work()
    assert await states(lab) == ["waiting"] * 3


def test_a_rate_is_spread_over_batches_of_a_quarter_second() -> None:
    assert [batch_size(rate) for rate in (0.1, 1, 4, 40, 1e9, None)] == [1, 1, 1, 10, 200, 200]


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_replay_that_dies_between_any_two_statements_is_whole_or_nothing(lab: Laboratory, when: When) -> None:
    for statement in count(1):
        await lab.put(f"hopeless {statement}")
        await lab.owner.execute("DELETE FROM dead_letters")
        lab.cured = False
        await lab.work()
        [letter] = (await letters(lab)).values()
        lab.cured = True
        fate = Fate(statement, when)
        async with mortal_pool(lab.database, fate, login=Login.OWNER) as pool:
            try:
                async with pool.acquire() as connection, connection.transaction():
                    await replay(connection, [letter], DECISION)
            except UNAVAILABLE:
                assert fate.is_dead
        assert (await states(lab) == ["replayed"]) == (await lab.waiting() == 1)
        await replayed(lab, letter)
        await lab.work()
        assert (await lab.effects()).count(f"hopeless {statement}") == 1
        if not fate.is_dead:
            break
    assert statement > 3, "fewer statements than a replay is known to have"


@pytest.mark.parametrize("seed", range(3))
async def test_replays_that_race_each_other_and_running_consumers_bring_each_message_once_and_in_order(
    lab: Laboratory, seed: int
) -> None:
    """Two processes replay whatever waits while three consumers work, some of them dying, and faults come and go."""
    rng = random.Random(seed)
    expected: dict[str, list[str]] = defaultdict(list)
    for number in range(60):
        key = f"k{rng.randrange(8)}"
        expected[key].append(f"{key} {number}")
        await lab.put(expected[key][-1], key=key, topic="lab.strict")

    async def misbehave(_connection: object, _word: str) -> None:
        await asyncio.sleep(rng.random() * 0.002)
        if rng.random() < 0.15:
            raise RuntimeError("bad luck")

    lab._misbehave = misbehave  # type: ignore[method-assign, assignment]
    owners = await lab.database.pool(Login.OWNER, purpose="test", size=5)
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(_replay_whatever_waits(lab, owners, rng))
        for _ in range(3):
            group.create_task(_consume_and_die(lab, owners, rng))
    await close_pool(owners)

    done = defaultdict(list)
    for word in await lab.effects_in_order():
        done[word.split()[0]].append(word)
    assert done == expected


async def _is_work_left(owners: Pool) -> bool:
    return bool(
        await owners.fetchval(
            """
            SELECT EXISTS (SELECT FROM pgmq.q_lab) OR EXISTS (SELECT FROM parked_messages WHERE queue = 'lab')
                OR EXISTS (SELECT FROM dead_letters WHERE state = 'waiting')
            """
        )
    )


async def _replay_whatever_waits(lab: Laboratory, owners: Pool, rng: random.Random) -> None:
    while await _is_work_left(owners):
        async with owners.acquire() as connection, connection.transaction():
            rows = await connection.fetch("SELECT dead_letter_id FROM dead_letters WHERE state = 'waiting'")
            ids = [row["dead_letter_id"] for row in rows]
            rng.shuffle(ids)
            await replay(connection, ids, DECISION)
        await asyncio.sleep(rng.random() * 0.01)


async def _consume_and_die(lab: Laboratory, owners: Pool, rng: random.Random) -> None:
    """Work until nothing is left, and be cancelled in the middle every now and then."""
    consumer = lab.consumer(worker_batch_size=7, retry_attempts=2, retry_base=0.001, worker_poll_interval=0.01)
    while await _is_work_left(owners):
        working = asyncio.create_task(consumer.run_once())
        if rng.random() < 0.1:
            await asyncio.sleep(rng.random() * 0.02)
            working.cancel()
        await asyncio.wait([working])
        if not working.cancelled():
            working.result()
