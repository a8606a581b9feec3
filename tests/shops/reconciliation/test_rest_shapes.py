"""What the Admin API says and what webhooks carry are one thing to whoever reads them."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, date, datetime
from typing import Any

import httpx
import orjson
import pytest

from sellflow.loyalty.models import OrderNews
from sellflow.loyalty.payloads import parse_news
from sellflow.queue.topics import Event
from sellflow.settings import Settings
from sellflow.shops.customers.payloads import parse_customer
from sellflow.shops.models import Customer
from sellflow.shops.reconciliation.reading import Reader
from sellflow.shops.reconciliation.rest_shapes import customer_resource
from sellflow.simulator.app import create_app
from sellflow.simulator.backend import Shopify
from sellflow.simulator.customer_payloads import customer_payload
from sellflow.simulator.models import Order
from sellflow.simulator.order_payloads import order_payload
from sellflow.simulator.refund_payloads import refund_payload
from tests.shops.reconciliation.admin_api import PlainClient
from tests.simulator.histories import DOMAIN, EVENTS, happen, place

SEEDS = range(30)
CURRENCIES = ("USD", "EUR", "JPY", "KWD")


class World:
    """A simulated shop and what reads it."""

    def __init__(self, shopify: Shopify, reader: Reader) -> None:
        self.shopify = shopify
        self.reader = reader

    def order_with_a_past(self, seed: int) -> Order:
        rng = random.Random(seed)
        shop = self.shopify.shop(DOMAIN)
        order = place(self.shopify, shop, rng, paid=rng.random() < 0.8, currency=rng.choice(CURRENCIES))
        for what in rng.choices(EVENTS, k=rng.randrange(7)):
            happen(self.shopify, order, what, rng)
            order = self.shopify.order(order.id)
        return order


@pytest.fixture
async def world() -> AsyncIterator[World]:
    app = create_app(schema_dir=Settings().shopify_schema_dir)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://simulator") as api,
    ):
        wanted = {"webhook_url": "http://127.0.0.1:1/", "client_secret": "hush", "products": 6, "customers": 40}
        assert (await api.put(f"/shops/{DOMAIN}", json=wanted)).status_code == 200
        token = (await api.post(f"/shops/{DOMAIN}/access-token", json={})).json()["access_token"]
        assert (
            await api.put(
                f"/shops/{DOMAIN}/admin-api/bucket", json={"maximum": 10**9, "level": 10**9, "restore_rate": 10**9}
            )
        ).status_code == 200
        yield World(app.state.simulator.shopify, Reader(PlainClient(api, DOMAIN, token)))  # type: ignore[arg-type]


def event(topic: str, payload: object) -> Event:
    moment = datetime(2026, 11, 22, tzinfo=UTC)
    return Event(date(2026, 11, 22), 1, 1, topic, "", orjson.dumps(payload), moment)


def read_order(payload: object) -> OrderNews:
    return parse_news(event("shopify.orders.updated", payload))


def comparable(news: OrderNews) -> tuple[Any, ...]:
    """All that was read, but for what tells two payloads of one revision apart: their bytes."""
    assert news.order is not None
    *rank, _ = news.order.revision_rank[:-16], ""
    return (
        news.order_id,
        news.order._replace(revision_rank="".join(rank), lines=tuple(sorted(news.order.lines))),
        sorted(news.refunds, key=lambda refund: refund.refund_id),
    )


@pytest.mark.conformance
async def test_an_order_reads_the_same_from_the_admin_api_and_from_its_webhook(world: World) -> None:
    kinds = set()
    for seed in SEEDS:
        order = world.order_with_a_past(seed)
        found = await world.reader.order(1, order.id)
        sent = order_payload(order)
        assert comparable(read_order(found)) == comparable(read_order(sent)), f"seed {seed}"
        assert found is not None
        assert differing(found, sent) == {}, f"seed {seed}"
        kinds |= {
            "refunded" if order.refunds else "whole",
            "cancelled" if order.cancelled_at else "kept",
            "foreign" if order.exchange.shop != order.exchange.presentment else "own",
            "discounted" if order.discount else "full price",
            "known" if order.customer else "guest",
        }
    assert len(kinds) == 10, f"the seeds do not bring every kind of order: {sorted(kinds)}"


@pytest.mark.conformance
async def test_a_refund_reads_the_same_from_the_admin_api_and_from_its_webhook(world: World) -> None:
    compared = 0
    for seed in SEEDS:
        order = world.order_with_a_past(seed)
        for refund in order.refunds:
            found = await world.reader.refund(1, refund.id)
            (read,) = parse_news(event("shopify.refunds.create", found)).refunds
            (sent,) = parse_news(event("shopify.refunds.create", refund_payload(order, refund))).refunds
            assert read == sent, f"seed {seed}"
            compared += 1
    assert compared > 20


def differing(found: Mapping[str, Any], sent: Mapping[str, Any]) -> dict[str, Any]:
    """Return the plain fields that say something else: services of other people read more of them than ours do."""
    assert set(found) <= set(sent), "no webhook has that"
    plain = {name: value for name, value in found.items() if not isinstance(value, dict | list)}
    return {name: (value, sent[name]) for name, value in plain.items() if not same(value, sent[name])}


def same(mine: object, theirs: object) -> bool:
    """Say whether two values are the same moment, amount or thing."""
    if isinstance(mine, str) and isinstance(theirs, str) and "T" in mine and mine[:4].isdigit():
        return datetime.fromisoformat(mine) == datetime.fromisoformat(theirs)
    try:
        return float(str(mine)) == float(str(theirs))
    except ValueError:
        return mine == theirs or (not mine and not theirs)


@pytest.mark.conformance
async def test_a_customer_reads_the_same_from_the_admin_api_and_from_its_webhook(world: World) -> None:
    shop = world.shopify.shop(DOMAIN)
    sent = {
        each.id: parse_customer(event("", customer_payload(each, shop))) for each in world.shopify.customers(DOMAIN)
    }
    found: dict[int, Customer] = {}
    async for page in world.reader.customers(1, ""):
        for each in page:
            found[each.legacy_resource_id] = parse_customer(event("", customer_resource(each)))
    assert {number: each._replace(locale=None) for number, each in found.items()} == sent


async def test_an_order_that_is_not_there_is_none(world: World) -> None:
    assert await world.reader.order(1, 4_711) is None
    assert await world.reader.refund(1, 4_711) is None
