"""Plays an interleaving on the real consumer, ledger and database, and looks how it ends."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count

import asyncpg
import orjson
from pydantic import BaseModel

from sellflow.postgres.database import UNAVAILABLE, Connection, Database, Login, Pool, SessionConnection, close_pool
from sellflow.queue import Event, Outbox, Subscription, json_of
from sellflow.queue.claims import Claim, claim, hand_back
from sellflow.queue.consumer import Consumer
from sellflow.queue.registry import Registry
from sellflow.queue.setup import prepare_queues
from sellflow.roles import build_registry
from sellflow.webhooks.keys import event_key
from sellflow.webhooks.store import Delivery, DeliveryStore
from tests.conftest import Tenant, make_tenant
from tests.edge.serving import with_settings
from tests.loyalty.books import check_books
from tests.loyalty.histories import RATES, News, told, worth
from tests.loyalty.interleavings import (
    QUEUES,
    Act,
    ComeDue,
    Deliver,
    Die,
    Expire,
    FallIll,
    GiveUp,
    Happening,
    Plan,
    Poison,
    Recover,
    Stall,
    WakeUp,
    Work,
)
from tests.queue.consuming import let_claims_expire, make_consumer
from tests.queue.mortality import Fate, mortal_pool

MOST_ROUNDS = 100

#: What the witness writes down, and what makes handlers fail: an order that is ill, and one event in three.
_PROPS = """
CREATE TABLE witnessed (
    place bigint GENERATED ALWAYS AS IDENTITY,
    shop_id bigint, customer_id bigint, event_id bigint, points bigint
);
CREATE TABLE ill (number bigint);
GRANT SELECT, INSERT ON witnessed TO sellflow_worker;
GRANT SELECT ON ill TO sellflow_worker;
CREATE FUNCTION fail_if_ill() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (to_jsonb(NEW) ->> TG_ARGV[0])::bigint % TG_ARGV[1]::bigint IN (SELECT number FROM ill) THEN
        RAISE 'it is ill';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER ill BEFORE INSERT OR UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION fail_if_ill('order_id', 10000);
CREATE TRIGGER ill BEFORE INSERT ON witnessed FOR EACH ROW EXECUTE FUNCTION fail_if_ill('event_id', 3);
"""


@dataclass
class Stage:
    """One installation of two shops while a plan is played on it."""

    tenants: tuple[Tenant, Tenant]
    stalled: list[tuple[str, list[Claim]]] = field(default_factory=list)
    poisons: int = 0


class PointsMoved(BaseModel):
    customer_id: int
    points: int


def _witness() -> Subscription:
    """A service that writes down what it hears, without any key that would make a second time impossible."""
    witness = Subscription("witness")

    @witness.handler("loyalty.points.*", parse=json_of(PointsMoved))
    async def write_down(connection: Connection, batch: Sequence[tuple[Event, PointsMoved]], _outbox: Outbox) -> None:
        await connection.execute(
            """
            INSERT INTO witnessed (shop_id, customer_id, event_id, points)
            SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[])
            """,
            [event.shop_id for event, _ in batch],
            [moved.customer_id for _, moved in batch],
            [event.event_id for event, _ in batch],
            [moved.points for _, moved in batch],
        )

    return witness


class Theatre:
    """Plays plans, each in shops of its own, and compares how they end."""

    def __init__(
        self, database: Database, owner: SessionConnection, ingest_pool: Pool, pool: Pool, registry: Registry
    ) -> None:
        self._database = database
        self._owner = owner
        self._deliveries = DeliveryStore(ingest_pool, registry)
        self._pool = pool
        self._registry = registry
        self._names = count(1)
        self._webhooks = count(1)

    async def play(self, plan: Plan) -> None:
        """Play a plan, and the same history told once and in order; both have to end as arithmetic says."""
        await self._owner.execute("TRUNCATE pgmq.q_loyalty, pgmq.q_witness, parked_messages, ill")
        news = [(each.shop, one) for each in plan.stories for one in told(each)[0]]
        expected = worth(plan.stories)

        in_order = await self._stage()
        await self._deliver(in_order, news)
        await self._drain()
        assert await self._ledger(in_order) == expected, "told once and in order"
        await self._check(in_order)

        stage = await self._stage()
        waiting = [news[number] for number in plan.arrival]
        for step in plan.steps:
            if isinstance(step, Deliver):
                await self._deliver(stage, waiting[: step.number])
                del waiting[: step.number]
            elif isinstance(step, Act):
                await self._act(stage, step)
            else:
                await self._let(stage, step)
        await self._deliver(stage, waiting)
        await self._let(stage, Recover())
        await self._drain()
        for queue, claims in stage.stalled:  # whoever stood still until now finds nothing left to do
            await self._consumer(queue)._handle_claims(claims)
        await self._drain()
        assert await self._ledger(stage) == expected, "told as the plan says"
        await self._check(stage)
        await check_books(self._owner)

    async def _stage(self) -> Stage:
        name = f"stage-{next(self._names)}"
        first = await make_tenant(self._owner, f"{name}-a", rate=str(float(RATES[0])))
        other = await make_tenant(self._owner, f"{name}-b", app=first.app, rate=str(float(RATES[1])))
        return Stage((first, other))

    async def _deliver(self, stage: Stage, news: Sequence[tuple[int, News]]) -> None:
        await self._store(stage, [(shop, topic, orjson.dumps(payload)) for shop, (topic, payload) in news])

    async def _store(self, stage: Stage, bodies: Sequence[tuple[int, str, bytes]]) -> None:
        """Store deliveries, each under an id of its own and a second time under the same."""
        deliveries = [
            Delivery(
                app_id=stage.tenants[shop].app.app_id,
                shop_domain=stage.tenants[shop].shop.domain,
                webhook_id=f"w-{next(self._webhooks)}",
                topic="shopify." + topic.replace("/", "."),
                key=event_key(topic, body),
                triggered_at=None,
                payload=body,
            )
            for shop, topic, body in bodies
        ]
        for _ in range(2):
            assert await self._deliveries.store(deliveries) == {}

    async def _act(self, stage: Stage, act: Act) -> None:
        match act:
            case Work(queue, batch):
                await self._consumer(queue, batch).run_once()
            case Die():
                await self._die(act)
            case Stall(queue, batch):
                found = await claim(self._pool, queue, visibility_timeout=30, quantity=batch, after_shop=0)
                stage.stalled.append((queue, found.claims))
            case WakeUp(which, beside) if stage.stalled:
                queue, claims = stage.stalled.pop(which % len(stage.stalled))
                others = [self._consumer(queue, beside).run_once()] if beside else []
                await asyncio.gather(self._consumer(queue)._handle_claims(claims), *others)
            case GiveUp(which) if stage.stalled:
                queue, claims = stage.stalled.pop(which % len(stage.stalled))
                await hand_back(self._pool, queue, claims)

    async def _let(self, stage: Stage, happening: Happening) -> None:
        match happening:
            case Poison(order_id):
                stage.poisons += 1
                await self._store(stage, [(0, "orders/paid", b'{"id":%d,"currency":7}' % order_id)])
            case Expire():
                for queue in QUEUES:
                    await let_claims_expire(self._owner, queue)
            case ComeDue():
                await self._owner.execute("UPDATE parked_messages SET due_at = now() WHERE due_at IS NOT NULL")
            case FallIll(order_id, remainder):
                await self._owner.execute("INSERT INTO ill VALUES ($1), ($2)", order_id, remainder)
            case Recover():
                await self._owner.execute("TRUNCATE ill")

    async def _die(self, step: Die) -> None:
        fate = Fate(step.statement, step.when)
        async with mortal_pool(self._database, fate) as pool:
            try:
                await self._consumer(step.queue, step.batch, pool).run_once()
            except UNAVAILABLE:
                assert fate.is_dead
            except asyncpg.DivisionByZeroError:
                assert step.when == "fails"

    def _consumer(self, queue: str, batch: int = 50, pool: Pool | None = None) -> Consumer:
        database = with_settings(self._database, worker_batch_size=batch)
        return make_consumer(database, pool or self._pool, self._registry, queue)

    async def _drain(self) -> None:
        """Let time pass and one consumer work until nothing is left."""
        left = "SELECT (SELECT count(*) FROM pgmq.q_{}) + (SELECT count(*) FROM parked_messages WHERE queue = '{}')"
        for queue in QUEUES:
            for _ in range(MOST_ROUNDS):
                if not await self._owner.fetchval(left.format(queue, queue)):
                    break
                await let_claims_expire(self._owner, queue)
                await self._owner.execute("UPDATE parked_messages SET due_at = now() WHERE due_at IS NOT NULL")
                await self._consumer(queue).run_once()
            else:
                raise AssertionError(f"{queue} never ends")

    async def _ledger(self, stage: Stage) -> Counter[tuple[int, int, int]]:
        """What the ledger says, by number of the shop, order and customer."""
        rows = await self._owner.fetch(
            """
            SELECT t.shop_id, substr(t.source, 7)::bigint AS order_id, a.customer_id, sum(e.points)::bigint AS points
            FROM transfers t JOIN entries e USING (transfer_id) JOIN accounts a USING (account_id)
            WHERE t.shop_id = ANY ($1::bigint[]) AND a.customer_id IS NOT NULL
            GROUP BY t.shop_id, t.source, a.customer_id
            """,
            [tenant.shop_id for tenant in stage.tenants],
        )
        numbers = {tenant.shop_id: number for number, tenant in enumerate(stage.tenants)}
        return Counter({(numbers[row["shop_id"]], row["order_id"], row["customer_id"]): row["points"] for row in rows})

    async def _check(self, stage: Stage) -> None:
        """Every event has one end, every movement was announced and heard once and in order, no shop has another's."""
        shops = [tenant.shop_id for tenant in stage.tenants]
        await self._check_ends(shops, stage.poisons)
        moved = await self._owner.fetch(
            """
            SELECT e.event_id, e.shop_id, p.customer_id, p.points
            FROM events e, jsonb_to_record(convert_from(e.payload, 'UTF8')::jsonb) p (customer_id bigint, points bigint)
            WHERE e.shop_id = ANY ($1::bigint[]) AND e.topic LIKE 'loyalty.points.%' ORDER BY e.event_id
            """,
            shops,
        )
        heard = await self._owner.fetch(
            """
            SELECT event_id, shop_id, customer_id, points FROM witnessed
            WHERE shop_id = ANY ($1::bigint[]) ORDER BY place
            """,
            shops,
        )
        assert _by_customer(heard) == _by_customer(moved), "every movement is heard once, in order"
        balances = await self._owner.fetch(
            """
            SELECT shop_id, customer_id, balance FROM accounts
            WHERE shop_id = ANY ($1::bigint[]) AND customer_id IS NOT NULL
            """,
            shops,
        )
        announced: Counter[tuple[int, int]] = Counter()
        for row in moved:
            announced[row["shop_id"], row["customer_id"]] += row["points"]
        assert announced == Counter({(row["shop_id"], row["customer_id"]): row["balance"] for row in balances})

    async def _check_ends(self, shops: Sequence[int], poisons: int) -> None:
        rows = await self._owner.fetch(
            """
            SELECT COALESCE(o.outcome, 'none') AS outcome, count(*) AS number
            FROM events e LEFT JOIN outcomes o ON o.day = e.day AND o.event_id = e.event_id
            WHERE e.shop_id = ANY ($1::bigint[]) AND e.topic <> 'queue.dead_letter' GROUP BY 1
            """,
            shops,
        )
        ends = {row["outcome"]: row["number"] for row in rows}
        assert "none" not in ends, "an event was lost"
        assert ends.get("dead", 0) == poisons
        letters = "SELECT count(*) FROM dead_letters WHERE shop_id = ANY ($1::bigint[])"
        assert await self._owner.fetchval(letters, shops) == poisons


def _by_customer(rows: Sequence[asyncpg.Record]) -> dict[tuple[int, int], list[tuple[int, int]]]:
    found: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for row in rows:
        found[row["shop_id"], row["customer_id"]].append((row["event_id"], row["points"]))
    return found


@asynccontextmanager
async def theatre(database: Database) -> AsyncIterator[Theatre]:
    """A theatre on a database of its own."""
    registry = Registry([*build_registry(database.settings).subscriptions.values(), _witness()])
    patient = with_settings(database, retry_attempts=100_000)
    owner = await database.connect(Login.OWNER, purpose="test")
    await prepare_queues(owner, registry, days_ahead=1)
    await owner.execute(_PROPS)
    ingest = await database.pool(Login.INGEST, purpose="test ingest", size=1)
    worker = await database.pool(Login.WORKER, purpose="test worker", size=4)
    try:
        yield Theatre(patient, owner, ingest, worker, registry)
    finally:
        await asyncio.gather(close_pool(ingest), close_pool(worker))
        await owner.close()
