"""A laboratory: one queue whose handler does what its messages say."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from sellflow.errors import InvalidPayloadError, PermanentError, PostponedError, SkippedError
from sellflow.postgres.database import Connection, Database, Pool, SessionConnection
from sellflow.queue.claims import Claim, claim
from sellflow.queue.consumer import Consumer
from sellflow.queue.event_log import emit
from sellflow.queue.registry import Registry
from sellflow.queue.retries import RetryPolicy
from sellflow.queue.setup import prepare_queues
from sellflow.queue.topics import EmittedEvent, Event, Outbox, Subscription
from sellflow.queue.wakeups import WakeUps
from tests.conftest import Tenant
from tests.edge.serving import with_settings
from tests.queue.consuming import let_claims_expire


class DeathError(BaseException):
    """Ends a worker in the middle of its work: it answers for nothing any more."""


class HopelessError(PermanentError):
    """Raised by the laboratory."""

    code = "lab.hopeless"


class Laboratory:
    """Puts messages into the queue `lab` and shows what became of them."""

    def __init__(self, database: Database, owner: SessionConnection, pool: Pool, tenant: Tenant) -> None:
        self.database = with_settings(database, retry_attempts=3)
        self.owner = owner
        self.pool = pool
        self.tenant = tenant
        self.batches: list[list[str]] = []
        self.handled = asyncio.Condition()
        self.cured = False
        self.calls: list[str] = []
        self.called = asyncio.Condition()
        self.registry = Registry(self._subscriptions())

    def _subscriptions(self) -> list[Subscription]:
        topics = ("lab.work.now", "lab.strict", "lab.patient", "lab.said", "lab.unheard", "lab.ask")
        lab = Subscription("lab", dict.fromkeys(topics, "said by a test"))
        lab.handler("lab.work.*", name="work", parse=self._parse)(self._apply)
        lab.handler("lab.strict", name="strict", parse=self._parse, after_dead_letter="block")(self._apply)
        lab.handler("lab.patient", name="patient", parse=self._parse, retry=RetryPolicy(9, 1, 1))(self._apply)
        listener = Subscription("listener")
        listener.handler("lab.said", name="hear", parse=self._parse)(self._apply)
        outside = Subscription("outside")
        outside.handler("lab.ask", name="ask", parse=self._parse, call=self._call)(self._apply_answers)
        return [lab, listener, outside]

    async def prepare(self) -> None:
        """Make the queues and a table for effects."""
        await self.prepare_queues()
        await self.owner.execute(
            """
            CREATE TABLE effects (place bigint GENERATED ALWAYS AS IDENTITY, effect text);
            GRANT SELECT, INSERT ON effects TO sellflow_worker
            """
        )

    async def prepare_queues(self) -> None:
        """Make the queues that the registry asks for."""
        await prepare_queues(self.owner, self.registry, days_ahead=1)

    @staticmethod
    def _parse(event: Event) -> str:
        if event.payload == b"unreadable":
            raise InvalidPayloadError("nobody can read this")
        return event.payload.decode()

    async def _apply(
        self, connection: Connection, batch: Sequence[tuple[Event, str]], outbox: Outbox
    ) -> Mapping[int, str]:
        """Write the effects of the whole batch with one statement, then do what single messages ask for."""
        words = [word for _, word in batch]
        self.batches.append(words)
        await connection.execute("INSERT INTO effects (effect) SELECT unnest($1::text[])", words)
        async with self.handled:
            self.handled.notify_all()
        for event, word in batch:
            if word.startswith("say"):
                outbox.emit(EmittedEvent(event.shop_id, "lab.said", "", word.removeprefix("say ").encode()))
            if not self.cured:
                await self._misbehave(connection, word)
        return {event.event_id: f"did {word}" for event, word in batch}

    async def _call(self, pool: Pool, event: Event, word: str) -> str:
        """Pretend to ask somebody outside."""
        assert await pool.fetchval("SELECT 1") == 1
        async with self.called:
            self.calls.append(word)
            self.called.notify_all()
        if not self.cured:
            if word == "fail":
                raise RuntimeError("nobody answered")
            if word == "hopeless":
                raise HopelessError("go away")
            if word == "pointless":
                raise SkippedError("the shop has removed the app")
            if word == "postpone":
                raise PostponedError("not now", seconds=60)
            if word == "slow":
                await asyncio.sleep(1.5)
        return f"answer to {word}"

    async def _apply_answers(
        self, connection: Connection, batch: Sequence[tuple[Event, tuple[str, str]]], outbox: Outbox
    ) -> Mapping[int, str | Exception]:
        """Write the answers down, and fail afterwards where a word says so."""
        await connection.execute(
            "INSERT INTO effects (effect) SELECT unnest($1::text[])", [answer for _, (_, answer) in batch]
        )
        if self.cured:
            return {}
        return {event.event_id: RuntimeError("noted") for event, (word, _) in batch if word == "note and fail"}

    @staticmethod
    async def _misbehave(connection: Connection, word: str) -> None:
        if word == "fail":
            raise RuntimeError("not today")
        if word == "kill":
            raise DeathError
        if word == "say and fail":
            raise RuntimeError("said too much")
        if word.startswith("hopeless"):
            raise HopelessError("not ever \x00")
        if word == "bad sql":
            await connection.execute("SELECT 1/0")
        if word == "deadlock":
            await connection.execute("DO $$ BEGIN RAISE SQLSTATE '40P01'; END $$")
        if word == "serialization":
            await connection.execute("DO $$ BEGIN RAISE SQLSTATE '40001'; END $$")
        if word == "cut off":
            await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    def consumer(self, *, queue: str = "lab", wake_ups: WakeUps | None = None, **settings: object) -> Consumer:
        """A new consumer, which looks for parked messages at its first round."""
        database = with_settings(self.database, **settings)
        return Consumer(
            subscription=self.registry.subscriptions[queue],
            registry=self.registry,
            pool=self.pool,
            wake_ups=wake_ups or WakeUps(database),
            settings=database.settings,
        )

    async def put(
        self, *words: str, topic: str = "lab.work.now", key: str | None = None, shop_id: int | None = None
    ) -> None:
        """Store an event and a message for each word, one after the other; its key is the word unless one is given."""
        shop_id = shop_id or self.tenant.shop_id
        for word in words:
            about = word if key is None else key
            await emit(self.owner, self.registry, [EmittedEvent(shop_id, topic, about, word.encode())])

    async def claim(self, quantity: int = 10, *, queue: str = "lab") -> list[Claim]:
        """Claim as a worker does, and do nothing about it."""
        found = await claim(self.pool, queue, visibility_timeout=30, quantity=quantity, after_shop=0)
        return found.claims

    async def effects(self) -> list[str]:
        """What handlers wrote and committed."""
        return [row["effect"] for row in await self.owner.fetch("SELECT effect FROM effects ORDER BY 1")]

    async def effects_in_order(self) -> list[str]:
        """What handlers wrote and committed, in the order they wrote it."""
        return [row["effect"] for row in await self.owner.fetch("SELECT effect FROM effects ORDER BY place")]

    async def work(self, *, queue: str = "lab") -> None:
        """Let one consumer work until nothing is left that may run now."""
        consumer = self.consumer(queue=queue)
        while await consumer.run_once():
            pass

    async def outcomes(self, queue: str = "lab") -> dict[str, str]:
        """What is recorded as the end of each message, by its word."""
        rows = await self.owner.fetch(
            "SELECT e.key, o.outcome FROM outcomes o JOIN events e USING (day, event_id) WHERE o.queue = $1", queue
        )
        return {row["key"]: row["outcome"] for row in rows}

    async def waiting(self, queue: str = "lab") -> int:
        """How many messages are in the queue, claimed or not."""
        return int(await self.owner.fetchval(f"SELECT count(*) FROM pgmq.q_{queue}"))

    async def parked(self) -> int:
        """How many messages wait for another attempt."""
        return int(await self.pool.fetchval("SELECT count(*) FROM parked_messages"))

    async def left(self) -> int:
        """How many messages are in the queue, asked by a connection that many may use at once."""
        return int(await self.pool.fetchval("SELECT count(*) FROM pgmq.q_lab"))

    async def let_claims_expire(self, queue: str = "lab") -> None:
        """Move time on: no claim is valid any more."""
        await let_claims_expire(self.owner, queue)

    async def let_retries_come_due(self) -> None:
        """Move time on: everything that waits for its next attempt may be tried again."""
        await self.owner.execute("UPDATE parked_messages SET due_at = clock_timestamp() WHERE due_at IS NOT NULL")


@pytest.fixture
async def lab(database: Database, owner: SessionConnection, worker_pool: Pool, tenant: Tenant) -> Laboratory:
    laboratory = Laboratory(database, owner, worker_pool, tenant)
    await laboratory.prepare()
    return laboratory
