"""Leases: one holder at a time, by the server's clock, and no word from a former one."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sellflow.postgres.database import Database, SessionConnection
from sellflow.postgres.leases import Lease, LeaseLostError, acquire, ensure_held, holder_name, release, renew
from tests.postgres.databases import connected

LONG = 60.0


async def expire(owner: SessionConnection, name: str = "thing") -> None:
    """Move time on: the lease has run out."""
    await owner.execute("UPDATE leases SET expires_at = clock_timestamp() WHERE name = $1", name)


async def test_of_two_who_ask_one_gets_the_lease(owner: SessionConnection) -> None:
    lease = await acquire(owner, "thing", "one", seconds=LONG)
    assert lease is not None
    assert (lease.holder, lease.epoch) == ("one", 1)
    assert await acquire(owner, "thing", "other", seconds=LONG) is None
    assert await acquire(owner, "another thing", "other", seconds=LONG) is not None


async def test_of_many_who_ask_at_once_one_gets_the_lease(database: Database) -> None:
    async def ask(number: int) -> Lease | None:
        async with connected(database) as connection:
            return await acquire(connection, "thing", f"holder {number}", seconds=LONG)

    given_to = [lease for lease in await asyncio.gather(*map(ask, range(12))) if lease]
    assert len(given_to) == 1


async def test_a_lease_is_usable_for_less_than_the_server_grants(owner: SessionConnection) -> None:
    loop = asyncio.get_running_loop()
    before = loop.time()
    lease = await acquire(owner, "thing", "one", seconds=LONG)
    assert lease is not None
    assert before < lease.usable_until < before + LONG


async def test_a_lease_that_ran_out_goes_to_another_with_a_higher_epoch(owner: SessionConnection) -> None:
    first = await acquire(owner, "thing", "one", seconds=LONG)
    await expire(owner)
    second = await acquire(owner, "thing", "other", seconds=LONG)
    assert first
    assert second
    assert second.epoch == first.epoch + 1
    for refused in (renew(owner, first), ensure_held(owner, first)):
        with pytest.raises(LeaseLostError, match="thing"):
            await refused
    await release(owner, first)
    await ensure_held(owner, second)


async def test_a_lease_that_ran_out_is_lost_although_nobody_took_it(owner: SessionConnection) -> None:
    lease = await acquire(owner, "thing", "one", seconds=LONG)
    assert lease
    await expire(owner)
    with pytest.raises(LeaseLostError, match="ran out"):
        await renew(owner, lease)


async def test_renewing_extends_a_lease_and_keeps_its_epoch(owner: SessionConnection) -> None:
    lease = await acquire(owner, "thing", "one", seconds=LONG)
    assert lease
    left = "SELECT expires_at FROM leases WHERE name = 'thing'"
    before = await owner.fetchval(left)
    renewed = await renew(owner, lease)
    assert renewed.epoch == lease.epoch
    assert renewed.usable_until > lease.usable_until
    assert await owner.fetchval(left) > before


async def test_a_holder_whose_answer_was_lost_may_ask_again(owner: SessionConnection) -> None:
    first = await acquire(owner, "thing", "one", seconds=LONG)
    again = await acquire(owner, "thing", "one", seconds=LONG)
    assert first
    assert again
    with pytest.raises(LeaseLostError):
        await renew(owner, first)
    await renew(owner, again)


async def test_a_lease_that_is_released_goes_to_another_at_once(owner: SessionConnection) -> None:
    lease = await acquire(owner, "thing", "one", seconds=LONG)
    assert lease
    await release(owner, lease)
    await release(owner, lease)
    other = await acquire(owner, "thing", "other", seconds=LONG)
    assert other
    assert other.epoch == lease.epoch + 1


async def test_nobody_takes_a_lease_between_the_fence_and_the_commit(
    database: Database, owner: SessionConnection
) -> None:
    lease = await acquire(owner, "thing", "one", seconds=LONG)
    assert lease
    async with connected(database) as writer, connected(database) as rival:
        writing = writer.transaction()
        await writing.start()
        await ensure_held(writer, lease)
        taking = asyncio.create_task(acquire(rival, "thing", "one", seconds=LONG))
        async with asyncio.timeout(10):
            while not await owner.fetchval("SELECT cardinality(pg_blocking_pids($1)) > 0", rival.get_server_pid()):
                assert not taking.done(), "it was taken although a transaction relies on it"
        await writing.commit()
        taken = await taking
    assert taken is not None
    assert taken.epoch == lease.epoch + 1


async def test_a_process_that_freezes_behind_the_fence_is_cut_off(database: Database, owner: SessionConnection) -> None:
    lease = await acquire(owner, "thing", "one", seconds=LONG)
    assert lease
    async with connected(database) as writer, writer.transaction():
        await ensure_held(writer, lease)
        assert await writer.fetchval("SHOW idle_in_transaction_session_timeout") == "5s"


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["acquire", "renew", "release", "expire"]))))
async def test_epochs_rise_and_one_holds_at_a_time_whatever_holders_do(
    owner: SessionConnection, steps: list[tuple[int, str]]
) -> None:
    name = holder_name()
    held: dict[int, Lease] = {}
    newest, current = 0, -1
    for who, step in steps:
        if step == "expire":
            await expire(owner, name)
            current = -1
        elif step == "acquire":
            lease = await acquire(owner, name, f"holder {who}", seconds=LONG)
            assert (lease is None) == (current not in (-1, who))
            if lease:
                assert lease.epoch > newest
                newest, current, held[who] = lease.epoch, who, lease
        elif who in held and step == "release":
            await release(owner, held[who])
            current = -1 if who == current else current
        elif who in held:
            try:
                held[who] = await renew(owner, held[who])
                assert who == current
            except LeaseLostError:
                assert who != current
