"""Imports as work in a queue: a message is one step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson
import structlog
from pydantic import BaseModel

from sellflow.errors import PermanentError, SellflowError
from sellflow.postgres.database import Connection, Pool, SessionConnection
from sellflow.queue import EmittedEvent, Event, Outbox, Subscription, json_of
from sellflow.queue.event_log import emit
from sellflow.queue.jobs import Job
from sellflow.queue.registry import Registry
from sellflow.secrets import Vault
from sellflow.settings import Settings
from sellflow.shopify.admin.opening import AdminClients
from sellflow.shops.imports import store
from sellflow.shops.imports.run import ImportStep

log = structlog.get_logger(__name__)

IMPORT_DUE = "shops.import.due"
#: Seconds between two looks for imports whose next step is due, and imports that one look lets go on.
LOOK_EVERY = 5.0
AT_A_TIME = 20
#: Seconds that a step may take to store things, and after which one that nobody told the end of is done again.
BUDGET = 20.0
AGAIN_IN = 120.0
#: Steps that may fail one after the other.
MOST_FAILURES = 12


class Due(BaseModel):
    """Which import goes on."""

    import_id: int


@dataclass(frozen=True, slots=True)
class Step:
    """How a step ended: `wait` is None where it was the last."""

    wait: float | None = None
    error: str = ""
    is_final: bool = False


def handle_imports(subscription: Subscription, settings: Settings, clients: AdminClients, vault: Vault) -> None:
    """Have a queue that asks Shopify take imports' steps, too."""

    async def step(pool: Pool, event: Event, due: Due) -> Step:
        taken = ImportStep(clients.of(pool), vault, budget=min(BUDGET, settings.reconciliation_budget))
        try:
            return Step(await taken.take(event.shop_id, due.import_id))
        except SellflowError as error:
            log.warning("import.step_failed", shop_id=event.shop_id, code=error.code, error=str(error))
            return Step(error=f"{error.code}: {error}", is_final=isinstance(error, PermanentError))

    subscription.handler(IMPORT_DUE, parse=json_of(Due), call=step, name="import")(record)


async def record(
    connection: Connection, batch: Sequence[tuple[Event, tuple[Due, Step]]], _outbox: Outbox
) -> Mapping[int, str]:
    """Note how each step ended."""
    sentences = {}
    for event, (due, step) in batch:
        if step.error:
            sentences[event.event_id] = await _failed(connection, event.shop_id, due.import_id, step)
        elif step.wait is not None:
            await store.step_in(connection, event.shop_id, due.import_id, step.wait)
            sentences[event.event_id] = "a step was done, and more are to come"
        else:
            sentences[event.event_id] = "the import has ended"
    return sentences


async def _failed(connection: Connection, shop_id: int, import_id: int, step: Step) -> str:
    found = await store.find_import(connection, shop_id, import_id)
    if found and (step.is_final or found.failures + 1 >= MOST_FAILURES):
        await store.end(connection, shop_id, import_id, state="failed", error=step.error)
        return f"the import failed: {step.error}"
    await store.note_failure(connection, shop_id, import_id, step.error)
    return f"a step failed and is tried again: {step.error}"


def continue_imports(registry: Registry) -> Job:
    """Return the job that queues the next step of every import."""

    async def run(connection: SessionConnection) -> str:
        async with connection.transaction():
            due = await store.take_due(connection, again_in=AGAIN_IN, at_most=AT_A_TIME)
            await emit(connection, registry, [_event(shop_id, import_id) for shop_id, import_id in due])
        return f"{len(due)} imports go on"

    return Job("continue_imports", LOOK_EVERY, run)


def _event(shop_id: int, import_id: int) -> EmittedEvent:
    return EmittedEvent(shop_id, IMPORT_DUE, f"import:{import_id}", orjson.dumps({"import_id": import_id}))
