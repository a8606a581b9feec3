"""Deliveries are retried, timed out, duplicated, delayed and lost the way Shopify does it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from sellflow.simulator.faults import Fate
from sellflow.simulator.journal import Delivery, Outcome, count, pack
from sellflow.simulator.models import App
from sellflow.simulator.notices import Notice
from sellflow.simulator.outbox import Outbox
from sellflow.simulator.schemas import Faults
from sellflow.simulator.sender import RETRY_GAPS, Receiver, Sender
from sellflow.simulator.signing import sign

from .conftest import DOMAIN, SECRET
from .receiver import Receiver as Endpoint

COMPRESSION = 1_000_000.0


@pytest.fixture
async def sender() -> AsyncIterator[Sender]:
    found = Sender(concurrency=4, total_seconds=0.2)
    yield found
    await found.close()


def to(url: str) -> Receiver:
    return Receiver(lambda: App(url, SECRET), COMPRESSION)


def delivery(fate: Fate = Fate()) -> Delivery:  # noqa: B008 - a frozen value
    return Delivery("one-id", "event", "orders/create", DOMAIN, 1, datetime.now(UTC), pack(b"{}"), fate)


async def carry(sender: Sender, to: Receiver, fate: Fate = Fate()) -> Delivery:  # noqa: B008
    found = delivery(fate)
    await sender.deliver(found, to, lambda: None)
    return found


def statuses(found: Delivery) -> list[int | None]:
    return [attempt.status for attempt in found.attempts]


@pytest.mark.conformance
def test_eight_retries_spread_over_four_hours_with_growing_gaps() -> None:
    assert len(RETRY_GAPS) == 8
    assert sum(RETRY_GAPS) == 4 * 3600
    assert list(RETRY_GAPS) == sorted(set(RETRY_GAPS))


async def test_a_delivery_is_signed_and_acknowledged(sender: Sender, receiver: Endpoint) -> None:
    found = await carry(sender, to(receiver.url))

    (request,) = receiver.requests
    assert request.headers["x-shopify-hmac-sha256"] == sign(request.body, SECRET)
    assert found.outcome is Outcome.ACKNOWLEDGED


async def test_it_is_retried_with_the_same_id_until_it_is_acknowledged(sender: Sender, receiver: Endpoint) -> None:
    receiver.answer = lambda _request: 200 if len(receiver.requests) == 4 else 503
    found = await carry(sender, to(receiver.url))

    assert statuses(found) == [503, 503, 503, 200]
    assert {request.webhook_id for request in receiver.requests} == {"one-id"}
    assert found.outcome is Outcome.ACKNOWLEDGED


async def test_it_fails_after_the_eighth_retry(sender: Sender, receiver: Endpoint) -> None:
    receiver.answer = lambda _request: 500
    found = await carry(sender, to(receiver.url))

    assert statuses(found) == [500] * 9
    assert found.outcome is Outcome.FAILED


@pytest.mark.parametrize("status", [301, 302, 304, 308, 401, 404, 410])
async def test_a_redirection_or_refusal_is_a_failure(sender: Sender, receiver: Endpoint, status: int) -> None:
    receiver.answer = lambda _request: status if len(receiver.requests) == 1 else 204

    assert statuses(await carry(sender, to(receiver.url))) == [status, 204]


async def test_silence_is_a_failure(sender: Sender, receiver: Endpoint) -> None:
    receiver.answer = lambda _request: None if len(receiver.requests) == 1 else 200
    found = await carry(sender, to(receiver.url))

    assert statuses(found) == [None, 200]
    assert found.attempts[0].error == "no answer within 0.2 seconds"


async def test_nobody_listening_is_a_failure(sender: Sender) -> None:
    found = await carry(sender, to("http://127.0.0.1:1/webhooks"))

    assert found.outcome is Outcome.FAILED
    assert all("ConnectError" in (attempt.error or "") for attempt in found.attempts)


async def test_a_lost_delivery_is_never_sent_but_known(sender: Sender, receiver: Endpoint) -> None:
    found = await carry(sender, to(receiver.url), Fate(lost=True, duplicated=True))

    assert receiver.requests == []
    assert found.outcome is Outcome.LOST


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_duplicate_has_the_id_and_body_of_the_original(
    sender: Sender, receiver: Endpoint, at_once: bool
) -> None:
    found = await carry(sender, to(receiver.url), Fate(duplicated=True, duplicated_at_once=at_once))

    first, second = receiver.requests
    assert first == second
    assert sorted(attempt.duplicate for attempt in found.attempts) == [False, True]


async def test_a_duplicate_may_come_at_the_same_time(sender: Sender, receiver: Endpoint) -> None:
    receiver.gate.clear()
    carrying = asyncio.create_task(carry(sender, to(receiver.url), Fate(duplicated=True, duplicated_at_once=True)))
    await receiver.wait_for(2)
    receiver.gate.set()
    await carrying

    assert receiver.most_at_once == 2


async def test_a_delayed_delivery_comes_after_later_ones(sender: Sender, receiver: Endpoint) -> None:
    outbox = Outbox(sender, to(receiver.url), DOMAIN, random.Random(1))
    await outbox.post([Notice("late", 1, b"{}")], Faults(delay=1, delay_seconds=0.2))
    await outbox.post([Notice("early", 1, b"{}")], Faults())
    await outbox.drain()

    assert receiver.topics() == ["early", "late"]


async def test_reordered_deliveries_arrive_in_another_order(receiver: Endpoint) -> None:
    one_by_one = Sender(concurrency=1)
    outbox = Outbox(one_by_one, to(receiver.url), DOMAIN, random.Random(1))
    topics = [f"topic/{number}" for number in range(20)]
    for topic in topics:
        await outbox.post([Notice(topic, 1, b"{}")], Faults(reorder=0.5, reorder_window=5))
    await outbox.drain()
    await one_by_one.close()

    assert receiver.topics() != topics
    assert sorted(receiver.topics()) == sorted(topics)


async def test_no_more_requests_are_under_way_than_allowed(sender: Sender, receiver: Endpoint) -> None:
    receiver.gate.clear()
    outbox = Outbox(sender, to(receiver.url), DOMAIN, random.Random(1))
    await outbox.post([Notice("orders/create", 1, b"{}")] * 12, Faults())
    await receiver.wait_for(4)
    receiver.gate.set()
    await outbox.drain()

    assert receiver.most_at_once == 4
    assert count(outbox.journal).acknowledged == 12


async def test_what_one_action_causes_shares_an_event_but_no_webhook_id(sender: Sender, receiver: Endpoint) -> None:
    outbox = Outbox(sender, to(receiver.url), DOMAIN, random.Random(1))
    await outbox.post([Notice("orders/create", 1, b"{}"), Notice("orders/paid", 1, b"{}")], Faults())
    await outbox.drain()

    assert len({request.webhook_id for request in receiver.requests}) == 2
    assert len({request.headers["x-shopify-event-id"] for request in receiver.requests}) == 1
