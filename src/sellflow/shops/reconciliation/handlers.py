"""Reconciliation as work in a queue: the scheduler says whose turn it is, a worker asks Shopify."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog
from pydantic import BaseModel

from sellflow.errors import SellflowError
from sellflow.postgres.database import Connection, Pool, SessionConnection
from sellflow.postgres.transactions import of_worker
from sellflow.queue import EmittedEvent, Event, Outbox, Subscription, json_of
from sellflow.queue.event_log import emit
from sellflow.queue.jobs import Job
from sellflow.queue.registry import Registry
from sellflow.secrets import Vault
from sellflow.settings import Settings
from sellflow.shopify.admin.opening import AdminClients
from sellflow.shops.imports.handlers import IMPORT_DUE, handle_imports
from sellflow.shops.reconciliation import store
from sellflow.shops.reconciliation.reading import Reader
from sellflow.shops.reconciliation.run import Reconciliation, Tally

log = structlog.get_logger(__name__)

QUEUE = "reconciliation"
RECONCILIATION_DUE = "shops.reconciliation.due"
#: Shops that one run of the job lets begin; the next takes the rest.
SHOPS_AT_A_TIME = 500
#: Seconds between two looks at whose turn it is.
LOOK_EVERY = 15.0


class Due(BaseModel):
    """What the queue carries: nothing, the event names the shop."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended; both are empty where the shop is not installed any more."""

    tally: Tally | None = None
    error: str = ""


def subscription(settings: Settings, clients: AdminClients, vault: Vault) -> Subscription:
    """Return the queue of shops whose turn it is. A message that fails needs no retry: the turn comes again."""
    found = Subscription(
        QUEUE,
        {
            RECONCILIATION_DUE: "what webhooks did not tell of a shop is to be looked for",
            IMPORT_DUE: "the next step of an import is to be taken",
        },
        consumers=1,
    )

    async def look(pool: Pool, event: Event, _due: Due) -> Ended:
        client = clients.of(pool)
        run = Reconciliation(
            of_worker(pool),
            Reader(client),
            settle=settings.reconciliation_settle,
            budget=settings.reconciliation_budget,
        )
        try:
            return Ended(await run.run(event.shop_id))
        except SellflowError as error:
            log.warning("reconciliation.failed", shop_id=event.shop_id, code=error.code, error=str(error))
            return Ended(run.tally, f"{error.code}: {error}")

    handle_imports(found, settings, clients, vault)
    found.handler(RECONCILIATION_DUE, parse=json_of(Due), call=look, name="reconcile")(record)
    return found


async def record(
    connection: Connection, batch: Sequence[tuple[Event, tuple[Due, Ended]]], _outbox: Outbox
) -> Mapping[int, str]:
    """Note how each shop's run ended."""
    sentences: dict[int, str] = {}
    for event, (_, ended) in batch:
        if ended.error:
            await store.note_failed(connection, event.shop_id, error=ended.error)
        elif ended.tally:
            detail, more = ended.tally.sentence(), not ended.tally.is_complete
            await store.note_finished(connection, event.shop_id, detail=detail, more=more)
        said = ended.tally.sentence() if ended.tally else "the shop is not installed"
        sentences[event.event_id] = f"{said}; stopped by {ended.error}" if ended.error else said
    return sentences


def begin_reconciliations(registry: Registry, settings: Settings) -> Job:
    """Return the job that queues the shops whose turn it is."""

    async def run(connection: SessionConnection) -> str:
        async with connection.transaction():
            due = await store.begin_due(connection, every=settings.reconciliation_interval, at_most=SHOPS_AT_A_TIME)
            await emit(connection, registry, [turn_of(shop_id) for shop_id in due])
        return f"{len(due)} shops' turn"

    return Job("begin_reconciliations", LOOK_EVERY, run)


def turn_of(shop_id: int) -> EmittedEvent:
    """Return the event that it is a shop's turn."""
    return EmittedEvent(shop_id, RECONCILIATION_DUE, "reconciliation", b"{}")
