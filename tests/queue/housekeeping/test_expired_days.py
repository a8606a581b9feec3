"""Old days of the log are dropped, and none that holds anything unhandled."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from sellflow.postgres.database import Database, SessionConnection
from sellflow.queue.housekeeping import expired_days
from sellflow.queue.housekeeping.expired_days import LogInUseError, drop_expired_days, find_expired_days
from tests.postgres.databases import connected
from tests.queue.housekeeping.conftest import RETENTION, OldDays

job = drop_expired_days(RETENTION)

#: Everything that is not handled yet, by what it is counted as.
UNHANDLED = {
    "message": "queued",
    "parked": "parked",
    "follower": "parked",
    "dead_letter": "dead_letters",
    "unknown_shop": "unknown_shops",
    "lost_message": "without_outcome",
}


async def leave(old_days: OldDays, kind: str, age: int) -> None:
    day = old_days.day(age)
    if kind == "follower":
        await old_days.parked(day, follows=True)
    else:
        await getattr(old_days, kind)(day)


async def test_a_day_past_the_retention_is_dropped_and_a_younger_one_kept(old_days: OldDays) -> None:
    kept = [await old_days.make(age) for age in (1, RETENTION)]
    for age in (RETENTION + 1, 3 * RETENTION):
        await old_days.make(age)
    assert await job.run(old_days.owner) == "2 days dropped"
    assert await old_days.in_log() == set(kept)
    assert await old_days.owner.fetchval("SELECT count(*) FROM outcomes") == 2
    assert await job.run(old_days.owner) == "0 days dropped"


@pytest.mark.parametrize("kind", UNHANDLED)
async def test_a_day_that_holds_anything_unhandled_is_kept_and_told_of(old_days: OldDays, kind: str) -> None:
    held, free = await old_days.make(RETENTION + 2), await old_days.make(RETENTION + 1)
    await old_days.owner.execute("UPDATE pgmq.topic_bindings SET bound_at = now() - interval '1 year'")
    await leave(old_days, kind, RETENTION + 2)
    reason = UNHANDLED[kind]
    told = await job.run(old_days.owner)
    assert told == f"1 days dropped; held: {held} (1 {reason.replace('_', ' ')})"
    assert await old_days.in_log() == {held}, free
    assert REGISTRY.get_sample_value("sellflow_log_days_held", {"reason": reason}) == 1


async def test_a_day_is_dropped_once_what_held_it_is_handled(old_days: OldDays) -> None:
    day = await old_days.make(RETENTION + 1)
    await old_days.dead_letter(day)
    await job.run(old_days.owner)
    assert await old_days.in_log() == {day}
    await old_days.owner.execute("UPDATE dead_letters SET state = 'discarded'")
    await job.run(old_days.owner)
    assert await old_days.in_log() == set()
    assert REGISTRY.get_sample_value("sellflow_log_days_held", {"reason": "dead_letters"}) == 0


async def test_resolved_dead_letters_and_events_that_no_queue_wanted_hold_nothing(old_days: OldDays) -> None:
    await old_days.owner.execute("UPDATE pgmq.topic_bindings SET bound_at = now() - interval '1 year'")
    day = await old_days.make(RETENTION + 1)
    for state in ("discarded", "replayed"):
        await old_days.dead_letter(day, state=state)
    await old_days.event(day, topic="shopify.themes.publish")
    assert await job.run(old_days.owner) == "1 days dropped"


async def test_a_queue_that_is_bound_later_holds_no_event_that_came_before(old_days: OldDays) -> None:
    await old_days.owner.execute("UPDATE pgmq.topic_bindings SET bound_at = now() - interval '10 days'")
    await old_days.event(await old_days.make(RETENTION + 1))
    assert await job.run(old_days.owner) == "1 days dropped"


async def test_a_message_that_nobody_can_read_holds_nothing(old_days: OldDays) -> None:
    await old_days.make(RETENTION + 1)
    for message in ('"text"', '{"day": null}', '{"day": "yesterday"}', '{"day": 7}', "[]"):
        await old_days.owner.execute("INSERT INTO pgmq.q_loyalty (vt, message) VALUES (now(), $1)", message)
    assert await job.run(old_days.owner) == "1 days dropped"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    days=st.lists(
        st.tuples(st.booleans(), st.lists(st.sampled_from(sorted(UNHANDLED)), max_size=3)), min_size=1, max_size=4
    )
)
async def test_whatever_is_left_in_old_days_exactly_those_without_it_are_dropped(
    old_days: OldDays, days: list[tuple[bool, list[str]]]
) -> None:
    await old_days.owner.execute("UPDATE pgmq.topic_bindings SET bound_at = now() - interval '1 year'")
    held = set()
    for number, (has_partition, kinds) in enumerate(days):
        age = RETENTION + 1 + number
        day = await old_days.make(age, partition=has_partition)
        for kind in kinds:
            await leave(old_days, kind, age)
            held.add(day)
    unhandled = await unhandled_events(old_days.owner)
    await job.run(old_days.owner)
    assert await old_days.in_log() == held
    assert await unhandled_events(old_days.owner) == unhandled
    await forget_everything(old_days)
    await job.run(old_days.owner)
    assert await old_days.in_log() == set()


async def unhandled_events(owner: SessionConnection) -> int:
    return int(
        await owner.fetchval(
            "SELECT count(*) FROM events e WHERE NOT EXISTS (SELECT FROM outcomes o "
            "WHERE o.day = e.day AND o.event_id = e.event_id)"
        )
    )


async def forget_everything(old_days: OldDays) -> None:
    await old_days.owner.execute(
        """
        DELETE FROM pgmq.q_loyalty; DELETE FROM parked_messages; DELETE FROM dead_letters;
        DELETE FROM events e WHERE NOT EXISTS (
            SELECT FROM outcomes o WHERE o.day = e.day AND o.event_id = e.event_id
        )
        """
    )


async def test_old_rows_of_the_default_partition_go_in_batches(
    old_days: OldDays, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expired_days, "BATCH", 2)
    day = await old_days.make(RETENTION + 1, partition=False)
    kept = await old_days.make(RETENTION - 1, partition=False)
    for _ in range(4):
        await old_days.handled_event(day)
    assert await job.run(old_days.owner) == "1 days dropped"
    assert await old_days.in_log() == {kept}


async def test_two_schedulers_drop_the_same_days_at_once(database: Database, old_days: OldDays) -> None:
    for age in range(RETENTION + 1, RETENTION + 5):
        await old_days.make(age)
    async with connected(database) as one, connected(database) as other:
        await asyncio.gather(job.run(one), job.run(other))
    assert await old_days.in_log() == set()


async def test_a_drop_gives_way_to_whoever_uses_the_log_and_ingest_goes_on(
    database: Database, old_days: OldDays, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expired_days, "PAUSE", 0)
    day = await old_days.make(RETENTION + 1)
    async with connected(database) as backup, connected(database) as housekeeper:
        reading = backup.transaction()
        await reading.start()
        await backup.fetchval("SELECT count(*) FROM events")
        dropping = asyncio.ensure_future(job.run(housekeeper))
        while not dropping.done():
            await old_days.owner.execute("SET statement_timeout = '5s'")
            await old_days.event(old_days.day(0))
        with pytest.raises(LogInUseError, match=f"{day} could not be dropped"):
            await dropping
        await reading.commit()
        assert await job.run(housekeeper) == "1 days dropped"


async def test_looking_changes_nothing(old_days: OldDays) -> None:
    day = await old_days.make(RETENTION + 1)
    found = await find_expired_days(old_days.owner, RETENTION)
    assert [(each.day, each.reasons) for each in found] == [(day, {})]
    assert await old_days.in_log() == {day}
