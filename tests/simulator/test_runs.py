"""A run from its plan to its journal: what was sent agrees with what the orders came to."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from decimal import Decimal
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from sellflow.simulator.backend import Shopify
from sellflow.simulator.runs import Run
from sellflow.simulator.schemas import Faults, FinalOrder, Mix, RunPlan, SentWebhook
from sellflow.simulator.sender import Sender

from .conftest import DOMAIN, RegisterShop
from .histories import APP
from .receiver import Receiver

EVENTFUL = Mix(
    partial_refund=0.5,
    full_refund=0.2,
    shipping_refund=0.2,
    goodwill=0.3,
    cancel=0.2,
    edit=0.4,
    no_customer=0.1,
    customer_later=0.2,
    foreign_currency=0.3,
    unpaid=0.2,
)


async def run_offline(plan: RunPlan, *, currency: str = "USD") -> Run:
    """Play a run whose webhooks are all lost: nothing is sent, everything is noted."""
    shopify, sender = Shopify(), Sender()
    shopify.register(DOMAIN, currency, APP, products=8, customers=5, seed=7)
    run = Run("run-1", shopify, sender, DOMAIN, plan)
    await run.finished()
    await sender.close()
    assert run.status().error is None
    return run


def last_payloads(run: Run) -> dict[int, dict[str, Any]]:
    """Return the newest payload of each order that was sent about it."""
    found = {}
    for delivery in run.outbox.journal:
        if delivery.topic.startswith("orders/") and delivery.topic != "orders/edited":
            found[delivery.order_id or 0] = json.loads(delivery.body)
    return found


@pytest.mark.parametrize("currency", ["USD", "EUR", "JPY"])
async def test_final_orders_follow_from_what_was_sent(currency: str) -> None:
    run = await run_offline(RunPlan(count=150, seed=11, mix=EVENTFUL, faults=Faults(lose=1)), currency=currency)
    payloads = last_payloads(run)

    for order in run.final_orders():
        payload = payloads[order.order_id]
        adjustments = [one for refund in payload["refunds"] for one in refund["order_adjustments"]]
        lines = [line for refund in payload["refunds"] for line in refund["refund_line_items"]]
        back = sum((Decimal(line["subtotal_set"]["shop_money"]["amount"]) for line in lines), Decimal(0))
        back -= sum((Decimal(one["amount"]) for one in adjustments if one["kind"] == "refund_discrepancy"), Decimal(0))
        assert order.subtotal == Decimal(payload["subtotal_price"])
        assert order.refunded == min(back, order.subtotal)
        assert order.cancelled == (payload["cancelled_at"] is not None)
        assert order.customer_id == (payload["customer"] or {}).get("id")
        assert order.refunds == len(payload["refunds"])


async def test_refunds_of_one_order_come_several_times() -> None:
    run = await run_offline(RunPlan(count=100, seed=5, mix=Mix(partial_refund=1), faults=Faults(lose=1)))
    refunds = Counter(order.refunds for order in run.final_orders())

    assert sum(count for times, count in refunds.items() if times >= 2) > 10
    assert all(order.refunded <= order.subtotal for order in run.final_orders())


async def test_refunds_come_between_other_orders() -> None:
    run = await run_offline(RunPlan(count=50, seed=5, mix=EVENTFUL, faults=Faults(lose=1)))
    topics = [delivery.topic for delivery in run.outbox.journal]

    assert topics.index("refunds/create") < len(topics) - 1 - topics[::-1].index("orders/create")


async def test_the_same_seed_tells_the_same_story() -> None:
    plan = RunPlan(count=60, seed=9, mix=EVENTFUL, faults=Faults(lose=0.999999, reorder=0.5))
    stories = []
    for _ in range(2):
        run = await run_offline(plan)
        orders = [(order.name, order.subtotal, order.refunded, order.cancelled) for order in run.final_orders()]
        stories.append((orders, [(one.topic, one.fate) for one in run.outbox.journal]))

    assert stories[0] == stories[1]


async def test_no_webhook_id_repeats_when_a_run_does() -> None:
    plan = RunPlan(count=10, seed=9, faults=Faults(lose=1))
    runs = [await run_offline(plan) for _ in range(2)]
    ids = [one.webhook_id for run in runs for one in run.outbox.journal]

    assert len(ids) == len(set(ids))


async def followed(app: Starlette, api: httpx.AsyncClient, run_id: str) -> dict[str, Any]:
    """Return a run's status once it is over."""
    await app.state.simulator.run(run_id).finished()
    status: dict[str, Any] = (await api.get(f"/runs/{run_id}")).json()
    return status


async def test_a_run_with_every_fault_ends_with_everything_accounted_for(
    app: Starlette, api: httpx.AsyncClient, register: RegisterShop, receiver: Receiver
) -> None:
    await register()
    seen: defaultdict[str, int] = defaultdict(int)

    def stumble(request: Any) -> int:  # noqa: ANN401
        seen[request.webhook_id] += 1
        return 503 if seen[request.webhook_id] == 1 and len(seen) % 5 == 0 else 200

    receiver.answer = stumble
    plan = RunPlan(
        count=40,
        seed=3,
        mix=EVENTFUL,
        faults=Faults(duplicate=0.2, delay=0.2, delay_seconds=0.1, lose=0.1, reorder=0.2),
        time_compression=1_000_000,
    )
    started = await api.post(f"/shops/{DOMAIN}/runs", content=plan.model_dump_json())
    run_id = started.json()["run_id"]
    status = await followed(app, api, run_id)
    sent = [SentWebhook.model_validate_json(line) for line in (await api.get(f"/runs/{run_id}/sent")).text.splitlines()]
    orders = [
        FinalOrder.model_validate_json(line) for line in (await api.get(f"/runs/{run_id}/orders")).text.splitlines()
    ]

    assert started.status_code == 202
    assert (status["state"], status["orders"], len(orders)) == ("done", 40, 40)
    counts = status["webhooks"]
    assert counts["meant"] == len(sent) == counts["acknowledged"] + counts["lost"]
    assert counts["attempts"] == len(receiver.requests)
    assert counts["lost"] > 0
    assert counts["duplicates"] > 0
    assert {one.webhook_id: one.body.encode() for one in sent if one.outcome == "acknowledged"} == {
        request.webhook_id: request.body for request in receiver.requests
    }


async def test_a_run_keeps_its_rate(app: Starlette, api: httpx.AsyncClient, register: RegisterShop) -> None:
    await register()
    plan = {"count": 11, "rate": 100, "mix": {"partial_refund": 0}, "faults": {"lose": 1}}
    started = await api.post(f"/shops/{DOMAIN}/runs", json=plan)

    assert (await followed(app, api, started.json()["run_id"]))["seconds"] >= 0.1


async def test_a_cancelled_run_stops_and_keeps_its_journal(
    api: httpx.AsyncClient, register: RegisterShop, receiver: Receiver
) -> None:
    await register()
    receiver.gate.clear()
    started = await api.post(f"/shops/{DOMAIN}/runs", json={"count": 1000})
    await receiver.wait_for(3)
    status = (await api.delete(f"/runs/{started.json()['run_id']}")).json()

    assert status["state"] == "cancelled"
    assert status["webhooks"]["pending"] == status["webhooks"]["meant"] > 0
    assert (await api.get(f"/runs/{started.json()['run_id']}")).json() == status
