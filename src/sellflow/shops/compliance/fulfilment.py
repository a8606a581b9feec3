"""The periodic job that fulfils requests: a step of each that is due, what is late, what came of shops unknown."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import asyncpg
import structlog
from prometheus_client import Counter, Gauge

from sellflow.errors import InvalidPayloadError, SellflowError
from sellflow.postgres.database import SessionConnection
from sellflow.postgres.personal_data import Inventory
from sellflow.queue import Event
from sellflow.queue.jobs import Job
from sellflow.secrets import Vault
from sellflow.settings import Settings
from sellflow.shops.compliance import store
from sellflow.shops.compliance.customers import UnsettledError, erase_customer
from sellflow.shops.compliance.erasure import Erasure
from sellflow.shops.compliance.exports import expire_exports, make_export
from sellflow.shops.compliance.late import find_late
from sellflow.shops.compliance.models import Kind, Request, Scope, State
from sellflow.shops.compliance.payloads import KINDS, parse_notice
from sellflow.shops.compliance.tombstones import hash_key
from sellflow.shops.compliance.whole_shops import clear_strays, erase_shop, lift_pauses, reason_to_hold

log = structlog.get_logger(__name__)

unfinished = Gauge(
    "sellflow_compliance_requests", "Requests that are not finished, by what they wait for; overdue is one of them.",
    ["kind", "state"],
)  # fmt: skip
finished_total = Counter("sellflow_compliance_finished_total", "Requests that were fulfilled.", ["kind"])
failed_total = Counter("sellflow_compliance_failures_total", "Attempts at requests that failed.", ["kind"])

NAME = "fulfil_compliance"
EVERY = 60.0
TIMEOUT = 3600.0
#: Seconds until an attempt that failed is repeated, doubled each time, up to the longest.
FIRST_RETRY = 60.0
LONGEST_RETRY = 6 * 3600.0
#: Seconds until a second pass is tried again that came too early.
TOO_EARLY = 10.0
#: For so long after a shop is gone, something may still come under its id.
STRAYS_COME = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Fulfilment:
    """What fulfilling needs."""

    inventory: Inventory
    vault: Vault
    settle_seconds: float
    export_days: int


def fulfil_compliance(settings: Settings, inventory: Inventory, vault: Vault) -> Job:
    """Return the job."""
    means = Fulfilment(inventory, vault, settings.compliance_settle, settings.compliance_export_days)

    async def run(connection: SessionConnection) -> str:
        unknown = await take_in_unknown(connection)
        steps = await fulfil_due(connection, means)
        late = await find_late(connection, await hash_key(connection, vault))
        expired = await expire_exports(connection)
        await _clear_strays(connection, means)
        await _measure(connection)
        return f"{steps} steps taken, {unknown} of unknown shops, {late} late, {expired} exports expired"

    return Job(NAME, EVERY, run, timeout=TIMEOUT)


async def fulfil_due(connection: SessionConnection, means: Fulfilment) -> int:
    """Take the next step of every request that is due; return how many were taken. What fails does not stop others."""
    steps = 0
    for request in await store.due_requests(connection):
        try:
            await _take_step(connection, means, request)
            steps += 1
        except UnsettledError as error:
            await store.postpone(connection, request.request_id, seconds=TOO_EARLY, error=error.code, is_failure=False)
        except (SellflowError, asyncpg.PostgresError) as error:
            if connection.is_closed():
                raise
            await _note_failure(connection, request, error)
    return steps


async def _take_step(connection: SessionConnection, means: Fulfilment, request: Request) -> None:
    work = Erasure(connection, means.inventory, request)
    expires_at = None
    if request.kind is Kind.DATA_REQUEST:
        await make_export(work, means.vault, request)
        expires_at = datetime.now(UTC) + timedelta(days=means.export_days)
        await store.finish(connection, request.request_id, expires_at=expires_at)
    elif request.kind is Kind.CUSTOMER_REDACT:
        key = await hash_key(connection, means.vault)
        await erase_customer(work, request, key=key, settle_seconds=means.settle_seconds)
    elif reason := await reason_to_hold(connection, request):
        await store.hold(connection, request.request_id, reason)
        log.warning("compliance.held", request_id=request.request_id, reason=reason)
        return
    else:
        await erase_shop(work, request, settle_seconds=means.settle_seconds)
    is_done = request.kind is Kind.DATA_REQUEST or request.state is State.SETTLING or request.shop_id is None
    if is_done:
        finished_total.labels(request.kind.value).inc()
    log.info("compliance.step", request_id=request.request_id, kind=request.kind.value, done=is_done)


async def _note_failure(connection: SessionConnection, request: Request, error: Exception) -> None:
    """Have it tried again later. Of the error, only its kind is kept: its text may hold what is to be erased."""
    code = (
        error.code if isinstance(error, SellflowError) else f"{type(error).__name__} {getattr(error, 'sqlstate', '')}"
    )
    failed_total.labels(request.kind.value).inc()
    log.error("compliance.failed", request_id=request.request_id, kind=request.kind.value, error=code)
    seconds = min(LONGEST_RETRY, FIRST_RETRY * 2 ** min(request.attempts, 16))
    await store.postpone(connection, request.request_id, seconds=seconds, error=code.strip(), is_failure=True)


async def take_in_unknown(connection: SessionConnection) -> int:
    """Write down what the webhooks of unknown shops ask for; return how many there were.

    Nobody would ever hand those to a handler, and they would keep their day of the log for good.
    """
    rows = await connection.fetch(
        """
        SELECT day, event_id, app_id, shop_domain, topic, key, payload, received_at FROM events
        WHERE shop_id IS NULL AND topic = ANY ($1::text[]) ORDER BY day, event_id
        """,
        list(KINDS),
    )
    for row in rows:
        facts = dict(row)
        scope = Scope(facts.pop("app_id"), None, facts.pop("shop_domain"))
        async with connection.transaction():
            if await _still_unknown(connection, row["day"], row["event_id"]):
                await _take_in(connection, scope, Event(shop_id=0, **facts))
    return len(rows)


async def _still_unknown(connection: SessionConnection, day: object, event_id: int) -> bool:
    """Take the event out of the log; False where its shop was just installed, and its handler gets it."""
    tag = await connection.execute(
        "DELETE FROM events WHERE day = $1 AND event_id = $2 AND shop_id IS NULL", day, event_id
    )
    return tag == "DELETE 1"


async def _take_in(connection: SessionConnection, scope: Scope, event: Event) -> None:
    refused, notice = "", None
    try:
        notice = parse_notice(event)
        if notice.shop_domain != scope.domain:
            refused = "the body is about another shop than the header names"
    except InvalidPayloadError:
        refused = "the body is no such notice"
    await store.add_unknown(connection, scope, event, notice, kind=KINDS[event.topic], refused=refused)


async def _clear_strays(connection: SessionConnection, means: Fulfilment) -> None:
    since = datetime.now(UTC) - STRAYS_COME
    for request in await store.shops_erased_since(connection, since):
        assert request.shop_id is not None
        await clear_strays(Erasure(connection, means.inventory, request), request.shop_id, request.app_id)
    await lift_pauses(connection, gone_before=since)


async def _measure(connection: SessionConnection) -> None:
    found = await store.count_unfinished(connection)
    for kind in Kind:
        for state in (State.OPEN.value, State.HELD.value, State.SETTLING.value, "overdue"):
            unfinished.labels(kind.value, state).set(found.get((kind, state), 0))
