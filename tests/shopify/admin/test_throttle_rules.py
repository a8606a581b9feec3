"""The books of the bucket against a bucket, in invented time: they promise no more than there is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sellflow.postgres.database import Database, Login, SessionConnection
from sellflow.settings import Settings
from sellflow.shopify.admin.answers import Cost
from sellflow.shopify.admin.throttle_store import Settlement
from tests.conftest import cloned_database, make_tenant
from tests.shopify.admin.world import START, Kind, World

Play = Callable[[Callable[[World], Awaitable[None]]], None]

shared = settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
seconds = st.floats(0.001, 0.4)


@st.composite
def kinds(draw: st.DrawFn) -> Kind:
    requested = draw(st.integers(1, 200))
    return Kind(
        requested=requested,
        actual=draw(st.integers(0, requested)),
        there=draw(seconds),
        work=draw(seconds),
        back=draw(seconds),
        in_background=draw(st.booleans()),
    )


@pytest.fixture
def play(server_url: str, settings: Settings) -> Iterator[Play]:
    """Play scenes, each with a world of its own whose books are right at the start, on one connection."""
    with asyncio.Runner() as runner:
        stage = cloned_database(server_url, settings)
        database = runner.run(stage.__aenter__())
        connection, shop_id = runner.run(_set(database))

        def run(scene: Callable[[World], Awaitable[None]]) -> None:
            runner.run(_play(connection, shop_id, scene))

        yield run
        runner.run(connection.close())
        runner.run(stage.__aexit__(None, None, None))


async def _set(database: Database) -> tuple[SessionConnection, int]:
    connection = await database.connect(Login.OWNER, purpose="test")
    return connection, (await make_tenant(connection, "acme")).shop_id


async def _play(connection: SessionConnection, shop_id: int, scene: Callable[[World], Awaitable[None]]) -> None:
    await connection.execute("DELETE FROM admin_buckets")
    world = World(connection, shop_id)
    await connection.execute(
        """
        INSERT INTO admin_buckets (shop_id, level, maximum, restore_rate, measured_at, is_known)
        VALUES ($1, $2, $3, $4, $5, true)
        """,
        shop_id,
        world.level,
        world.maximum,
        world.rate,
        START,
    )
    await scene(world)


@shared
@given(callers=st.lists(kinds(), min_size=1, max_size=8))
@example(callers=[Kind(1, 0, 0.4, 0.4, 0.4), Kind(200, 0, 0.001, 0.001, 0.4), Kind(50, 50, 0.4, 0.001, 0.001)])
def test_without_anybody_else_no_call_is_ever_throttled(play: Play, callers: list[Kind]) -> None:
    async def scene(world: World) -> None:
        for kind in callers:
            world.backlog(kind, callers=1)
        await world.run(until=5.0)
        assert world.throttled == 0
        assert world.served > 0

    play(scene)


@shared
@given(callers=st.lists(kinds(), min_size=1, max_size=6), moments=st.lists(st.floats(0, 6), min_size=5, max_size=5))
def test_the_books_never_hold_more_than_fits_into_the_bucket(
    play: Play, callers: list[Kind], moments: list[float]
) -> None:
    async def scene(world: World) -> None:
        world.level = world.maximum
        for kind in callers:
            world.backlog(kind, callers=1)
        for moment in sorted(moments):
            await world.run(until=moment)
            books = await world.books()
            assert books["level"] + books["promised"] <= books["maximum"] + 0.001

    play(scene)


@shared
@given(
    believed=st.floats(-500, 1000),
    true=st.floats(0, 1000),
    kind=kinds(),
)
def test_one_call_alone_finds_the_truth_whatever_was_believed(
    play: Play, believed: float, true: float, kind: Kind
) -> None:
    async def scene(world: World) -> None:
        world.level = true
        await world.connection.execute("UPDATE admin_buckets SET level = $1", believed)
        world.caller(kind)
        # Twice, as the first may have been throttled.
        world.caller(kind, starts=30.0)
        await world.run(until=60.0)
        books = await world.books()
        # What came back while the answer was on its way is not known of, and not counted on.
        assert world.server_level() - world.rate * (kind.back + 0.001) <= books["level"]
        assert books["level"] <= world.server_level() + 0.001

    play(scene)


@shared
@given(callers=st.lists(kinds(), min_size=2, max_size=6), drains=st.lists(st.floats(1, 5), min_size=1, max_size=3))
def test_when_somebody_else_draws_only_calls_that_were_under_way_are_throttled(
    play: Play, callers: list[Kind], drains: list[float]
) -> None:
    async def scene(world: World) -> None:
        under_way = 0

        async def drain() -> None:
            nonlocal under_way
            world.drain()
            # Those that are there already were served, so this is the most there can be.
            under_way += len(callers)

        for kind in callers:
            world.backlog(kind, callers=1)
        for moment in drains:
            world.at(moment, drain)
        await world.run(until=6.0)
        assert world.throttled <= under_way

    play(scene)


def test_a_drain_costs_one_throttled_call_where_answers_are_quick(play: Play) -> None:
    async def scene(world: World) -> None:
        world.maximum = 2000.0
        world.backlog(Kind(20, 20), callers=8)
        for moment in (5.0, 10.0, 15.0):
            world.at(moment, world.drain)
        await world.run(until=20.0)
        assert world.throttled <= 3
        assert world.used >= 0.95 * (20.0 * world.rate - world.drained)

    play(scene)


@pytest.mark.parametrize(
    "kind",
    [Kind(10, 10), Kind(50, 50), Kind(10, 10, 0.2, 0.3, 0.2), Kind(100, 4)],
    ids=["small", "middling", "slow", "refunded"],
)
def test_a_backlog_uses_what_comes_back(play: Play, kind: Kind) -> None:
    async def scene(world: World) -> None:
        world.backlog(kind, callers=16)
        # By then there is as much as stays there: the reserve, and what lies idle while calls run.
        await world.run(until=5.0)
        before = world.used
        await world.run(until=15.0)
        assert world.throttled == 0
        assert world.used - before >= 0.97 * 10.0 * world.rate - kind.requested

    play(scene)


def test_calls_in_the_background_leave_the_reserve_and_those_in_the_foreground_use_it(play: Play) -> None:
    async def scene(world: World) -> None:
        world.maximum, world.reserve = 2000.0, 0.05
        await world.connection.execute("UPDATE admin_buckets SET maximum = 2000")
        world.backlog(Kind(40, 40), callers=20)
        await world.run(until=5.0)
        assert world.server_level() >= 100 - 40
        for number in range(40):
            world.caller(Kind(10, 10, in_background=False), starts=5.0 + number * 0.25)
        await world.run(until=20.0)
        assert max(world.waits[False]) < 0.5
        assert world.throttled == 0

    play(scene)


def test_an_expensive_call_is_not_starved_by_cheap_ones(play: Play) -> None:
    async def scene(world: World) -> None:
        world.backlog(Kind(5, 5), callers=10)
        await world.run(until=2.0)
        world.caller(Kind(400, 400), starts=2.0)
        await world.run(until=10.0)
        assert max(world.waits[True]) > 3
        assert any(wait < 5 for wait in world.waits[True] if wait > 3)

    play(scene)


def test_a_call_that_would_not_fit_beside_the_reserve_goes_when_the_bucket_is_full(play: Play) -> None:
    async def scene(world: World) -> None:
        world.caller(Kind(1000, 1000))
        await world.run(until=20.0)
        assert (world.served, world.throttled) == (1, 0)

    play(scene)


def test_points_of_a_process_that_died_are_given_up_once_and_for_all(play: Play) -> None:
    async def scene(world: World) -> None:
        world.level = 500.0
        await world.connection.execute("UPDATE admin_buckets SET level = 500")
        world.caller(Kind(100, 100, dies=True))
        await world.run(until=1.0)
        assert (await world.books())["promised"] == 100
        await world.run(until=46.0)
        books = await world.books()
        assert (books["promised"], books["spent"], books["level"]) == (0, 100, 1000)

    play(scene)


def test_a_settlement_that_comes_after_its_points_were_given_up_changes_nothing(play: Play) -> None:
    async def scene(world: World) -> None:
        assert not (await world.take("late", Kind(100, 100))).is_granted
        world.now = 2.0
        assert (await world.take("late", Kind(100, 100))).is_granted
        world.now = 60.0
        before = await world.books()
        await world.settle("late", Settlement(points=0, cost=Cost(available=1.0, maximum=5.0, restore_rate=1.0)))
        assert await world.books() == before

    play(scene)


def test_a_caller_who_waits_no_longer_holds_nobody_up(play: Play) -> None:
    async def scene(world: World) -> None:
        first = await world.take("gone", Kind(300, 300))
        assert not first.is_granted
        second = await world.take("patient", Kind(50, 50))
        assert second.wait > first.wait
        # It comes back when it was told to, and the other one does not.
        world.now = 1.5
        assert (await world.take("patient", Kind(50, 50))).is_granted

    play(scene)


def test_a_bucket_that_nothing_is_known_of_is_asked_by_one_call_at_a_time(play: Play) -> None:
    async def scene(world: World) -> None:
        await world.connection.execute("DELETE FROM admin_buckets")
        assert (await world.take("first", Kind(10, 10))).is_granted
        assert not (await world.take("second", Kind(10, 10))).is_granted
        await world.settle("first", Settlement(10, Cost(available=700, maximum=2000, restore_rate=100), failed=False))
        assert (await world.take("second", Kind(10, 10))).is_granted
        assert (await world.books())["level"] == 690

    play(scene)


def test_after_failures_in_a_row_one_call_finds_out_whether_shopify_is_back(play: Play) -> None:
    async def scene(world: World) -> None:
        world.level = 500
        await world.connection.execute("UPDATE admin_buckets SET level = 500")
        for number in range(5):
            assert (await world.take(f"call {number}", Kind(1, 1))).is_granted
            await world.settle(f"call {number}", Settlement(failed=True))
        closed = await world.take("probe", Kind(1, 1))
        assert closed.is_closed
        assert 0 < closed.wait <= 1
        world.now = 1.1
        assert (await world.take("probe", Kind(1, 1))).is_granted
        assert (await world.take("other", Kind(1, 1))).is_closed
        await world.settle("probe", Settlement(failed=True))
        world.now = 2.2
        assert (await world.take("other", Kind(1, 1))).is_closed, "the pause doubles"
        world.now = 3.2
        assert (await world.take("other", Kind(1, 1))).is_granted
        await world.settle("other", Settlement(1, failed=False))
        assert (await world.take("all", Kind(1, 1))).is_granted
        assert (await world.books())["failures"] == 0

    play(scene)


def test_a_probe_that_was_not_sent_lets_another_go(play: Play) -> None:
    async def scene(world: World) -> None:
        await world.connection.execute("UPDATE admin_buckets SET level = 500, failures = 5")
        assert (await world.take("probe", Kind(1, 1))).is_granted
        assert (await world.take("other", Kind(1, 1))).is_closed
        await world.settle("probe", Settlement(points=0))
        assert (await world.take("other", Kind(1, 1))).is_granted

    play(scene)


def test_shopify_is_left_alone_for_as_long_as_it_asks(play: Play) -> None:
    async def scene(world: World) -> None:
        await world.connection.execute("UPDATE admin_buckets SET level = 500")
        assert (await world.take("one", Kind(1, 1))).is_granted
        await world.settle("one", Settlement(points=0, failed=False, pause=7.0))
        turn = await world.take("two", Kind(1, 1, in_background=False))
        assert (turn.is_closed, round(turn.wait, 3)) == (True, 7.0)
        world.now = 7.01
        assert (await world.take("two", Kind(1, 1, in_background=False))).is_granted

    play(scene)
