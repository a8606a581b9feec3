"""What the queue does for endpoints: fan events out into deliveries, and send each of those."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum

import orjson
import structlog
from prometheus_client import Counter, Histogram
from pydantic import BaseModel

from sellflow.errors import PostponedError, SellflowError
from sellflow.postgres.database import Connection, Pool
from sellflow.postgres.transactions import batch_transaction
from sellflow.queue.outgoing import rules, store
from sellflow.queue.outgoing.addresses import Allowance, parse_networks
from sellflow.queue.outgoing.http_target import Resolve, post, resolve
from sellflow.queue.outgoing.lanes import Lanes
from sellflow.queue.outgoing.models import (
    Answer,
    Attempt,
    DeliveryState,
    EndpointState,
    NewDelivery,
    Parcel,
)
from sellflow.queue.outgoing.rules import DELIVERY_DUE, ENDPOINT_PAUSED, ENDPOINT_TEST, Audience
from sellflow.queue.outgoing.signatures import signed_headers
from sellflow.queue.outgoing.sns_target import publish
from sellflow.queue.payloads import json_of, read_json
from sellflow.queue.topics import EmittedEvent, Event, Outbox, Subscription
from sellflow.secrets import Vault
from sellflow.settings import Settings

log = structlog.get_logger(__name__)

FAN_OUT_QUEUE = "outgoing"
DELIVERY_QUEUE = "outgoing_deliveries"

deliveries_total = Counter(
    "sellflow_outgoing_attempts_total", "Attempts at outgoing deliveries by what came of them.", ["kind", "result"]
)
delivery_seconds = Histogram("sellflow_outgoing_seconds", "Seconds until an endpoint answered.", ["kind"])


class _Notice(BaseModel):
    """As much of a notice about an endpoint as decides who gets it."""

    endpoint_id: int
    of_service: bool


class Due(BaseModel):
    """What the queue carries for a delivery."""

    delivery_id: int


class Unsent(Enum):
    """Why nothing is sent for a message."""

    #: It was delivered already, or forgotten.
    NOTHING_DUE = "nothing left to send"
    REMOVED = "the endpoint was removed"
    PAUSED = "held: the endpoint is paused"


def due(delivery_id: int, shop_id: int) -> EmittedEvent:
    """Return the event that has a delivery sent."""
    payload = orjson.dumps({"delivery_id": delivery_id})
    return EmittedEvent(shop_id, DELIVERY_DUE, f"delivery:{delivery_id}", payload)


def parse_audience(event: Event) -> Audience:
    """Return whom an event is meant for.

    Raises
    ------
    InvalidPayloadError
        If a notice about an endpoint does not name it.
    """
    if event.topic not in (ENDPOINT_TEST, ENDPOINT_PAUSED):
        return Audience()
    notice = read_json(_Notice, event)
    if event.topic == ENDPOINT_TEST:
        return Audience(only_endpoint=notice.endpoint_id)
    # A merchant learns nothing of the installation's own services.
    return Audience(services_alone=notice.of_service)


async def fan_out(
    connection: Connection, batch: Sequence[tuple[Event, Audience]], outbox: Outbox
) -> Mapping[int, str | Exception]:
    """Add a delivery for each event and endpoint that is told of it, and have those sent that are not held."""
    listeners = await store.listeners(connection)
    told = {
        event.event_id: [
            each
            for each in listeners
            if rules.is_told(each, topic=event.topic, shop_id=event.shop_id, audience=audience)
        ]
        for event, audience in batch
    }
    new = [
        NewDelivery(
            endpoint_id=each.endpoint_id,
            shop_id=event.shop_id,
            day=event.day,
            event_id=event.event_id,
            topic=event.topic,
            state=DeliveryState.HELD if each.is_paused and event.topic != ENDPOINT_TEST else DeliveryState.PENDING,
        )
        for event, _ in batch
        for each in told[event.event_id]
    ]
    for delivery_id, shop_id in (await store.add_deliveries(connection, new)).items():
        outbox.emit(due(delivery_id, shop_id))
    return {event_id: f"for {len(each)} endpoints" for event_id, each in told.items()}


class Deliveries:
    """Sends deliveries, a few at a time to each endpoint, and records what came of it."""

    def __init__(self, settings: Settings, vault: Vault, *, resolve: Resolve = resolve) -> None:
        networks = parse_networks(settings.outgoing_private_networks)
        self._services = Allowance(networks)
        # Whoever may write a shop's settings must not reach what only the operator's own services should.
        self._merchants = Allowance(() if settings.environment == "production" else networks)
        self._timeout = settings.outgoing_timeout
        self._lanes = Lanes(max(1, settings.worker_calls // 4))
        self._resolve = resolve
        self._vault = vault

    async def send(self, pool: Pool, event: Event, due: Due) -> Attempt | Unsent:
        """Make one attempt at a delivery, unless there is a reason not to.

        Raises
        ------
        PostponedError
            If the endpoint is slow and has enough under way.
        """
        async with pool.acquire() as connection, batch_transaction(connection, [event.shop_id]):
            parcel = await store.find_parcel(connection, self._vault, due.delivery_id)
        if parcel is None or parcel.state == DeliveryState.DELIVERED:
            return Unsent.NOTHING_DUE
        if parcel.endpoint_state == EndpointState.REMOVED:
            return Unsent.REMOVED
        if parcel.endpoint_state == EndpointState.PAUSED and not rules.is_test(parcel):
            return Unsent.PAUSED
        async with self._lanes.enter(parcel.endpoint_id):
            return await self._attempt(parcel)

    async def _attempt(self, parcel: Parcel) -> Attempt:
        now = datetime.now(UTC)
        started = time.perf_counter()
        answer, error = None, None
        try:
            answer = await self._ask(parcel, now)
            error = rules.verdict(answer, now)
        except SellflowError as raised:
            error = raised
        seconds = time.perf_counter() - started
        delivery_seconds.labels(parcel.kind).observe(seconds)
        deliveries_total.labels(parcel.kind, error.code if error else "delivered").inc()
        return Attempt(parcel, now, round(seconds * 1000), answer, error)

    async def _ask(self, parcel: Parcel, now: datetime) -> Answer:
        body, message_id = rules.body(parcel), rules.webhook_id(parcel)
        if parcel.kind == "sns":
            return await publish(parcel.address, body, message_id=message_id, topic=parcel.topic, timeout=self._timeout)
        headers = signed_headers(message_id, body, secrets=parcel.secrets, now=now)
        allowance = self._services if parcel.of_service else self._merchants
        return await post(
            parcel.address, body, headers, allowance=allowance, timeout=self._timeout, resolve=self._resolve
        )

    async def record(
        self, connection: Connection, batch: Sequence[tuple[Event, tuple[Due, Attempt | Unsent]]], outbox: Outbox
    ) -> Mapping[int, str | Exception]:
        """Write down what a batch came to, and pause the endpoints that failed for too long.

        The message of a delivery that failed comes back as the queue's retries say, and is a dead letter in the end.
        """
        attempts = [end for _, (_, end) in batch if isinstance(end, Attempt)]
        await store.record_attempts(connection, [(each, rules.state_after(each)) for each in attempts])
        paused = await self._pause(connection, [each for each in attempts if not rules.is_test(each.parcel)], outbox)
        held = await store.hold(
            connection,
            {due.delivery_id for _, (due, end) in batch if end is Unsent.PAUSED}
            | {each.parcel.delivery_id for each in attempts if each.error and each.parcel.endpoint_id in paused},
        )
        removed = {due.delivery_id for _, (due, end) in batch if end is Unsent.REMOVED}
        await store.give_up(connection, removed, Unsent.REMOVED.value)
        return {event.event_id: _outcome(end, is_held=due.delivery_id in held) for event, (due, end) in batch}

    async def _pause(self, connection: Connection, attempts: Sequence[Attempt], outbox: Outbox) -> set[int]:
        if not attempts:
            return set()
        now = max(each.attempted_at for each in attempts)
        gone = {each.parcel.endpoint_id for each in attempts if isinstance(each.error, rules.EndpointGoneError)}
        reasons = {
            each.endpoint_id: reason
            for each in await store.record_health(connection, attempts)
            if (reason := rules.reason_to_pause(each, is_gone=each.endpoint_id in gone, now=now))
        }
        paused = set(await store.pause(connection, reasons))
        for parcel in {each.parcel.endpoint_id: each.parcel for each in attempts}.values():
            if parcel.endpoint_id in paused:
                log.warning(
                    "outgoing.endpoint_paused", endpoint_id=parcel.endpoint_id, reason=reasons[parcel.endpoint_id]
                )
                outbox.emit(_pause_notice(parcel, reasons[parcel.endpoint_id], now))
        return paused


def _outcome(end: Attempt | Unsent, *, is_held: bool) -> str | Exception:
    if is_held:
        return Unsent.PAUSED.value
    if end is Unsent.PAUSED:  # and was resumed since: now it can be sent
        return PostponedError("the endpoint was resumed meanwhile", seconds=0.0)
    if isinstance(end, Unsent):
        return str(end.value)
    if end.error is None:
        return f"answered {end.answer.status if end.answer else ''} after {end.duration_ms} ms"
    return f"the test failed: {end.error}" if rules.is_test(end.parcel) else end.error


def _pause_notice(parcel: Parcel, reason: str, now: datetime) -> EmittedEvent:
    payload = {
        "endpoint_id": parcel.endpoint_id,
        "of_service": parcel.of_service,
        # The log is the shop's: a service's address is none of its business.
        "address": None if parcel.of_service else parcel.address,
        "reason": reason,
        "paused_at": now,
    }
    return EmittedEvent(parcel.shop_id, ENDPOINT_PAUSED, f"endpoint:{parcel.endpoint_id}", orjson.dumps(payload))


def subscriptions(settings: Settings, vault: Vault, *, resolve: Resolve = resolve) -> list[Subscription]:
    """Return the two queues behind endpoints. Neither tells of its own dead letters: that would never end."""
    deliveries = Deliveries(settings, vault, resolve=resolve)
    told = Subscription(
        FAN_OUT_QUEUE,
        {
            ENDPOINT_TEST: "somebody wants to see whether an endpoint works",
            ENDPOINT_PAUSED: "an endpoint failed for so long that it is told of nothing until it is resumed",
        },
        announces=False,
        # Whoever adds an endpoint binds what it subscribes to: without listeners there is no traffic.
        binds=(ENDPOINT_TEST,),
        consumers=1,
    )
    told.handler("#", parse=parse_audience)(fan_out)
    delivered = Subscription(DELIVERY_QUEUE, {DELIVERY_DUE: "an endpoint is to be told of an event"}, announces=False)
    delivered.handler(DELIVERY_DUE, parse=json_of(Due), call=deliveries.send, name="deliver", retry=rules.RETRIES)(
        deliveries.record
    )
    return [told, delivered]
