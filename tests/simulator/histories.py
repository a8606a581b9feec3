"""Orders with a past: hypothesis strategies that let anything Shopify allows happen to an order."""

from __future__ import annotations

import random
from contextlib import suppress
from decimal import Decimal

from hypothesis import strategies as st

from sellflow.simulator.backend import Shopify
from sellflow.simulator.errors import RefusedError
from sellflow.simulator.models import App, Order, RestockType, Shop
from sellflow.simulator.money import PER_DOLLAR
from sellflow.simulator.stories import any_pick, basket

DOMAIN = "demo-shop.myshopify.com"
APP = App("http://127.0.0.1:1/webhooks", "hush")
CURRENCIES = st.sampled_from(sorted(PER_DOLLAR))


def open_shop(currency: str = "USD", seed: int = 1) -> tuple[Shopify, Shop]:
    shopify = Shopify()
    return shopify, shopify.register(DOMAIN, currency, APP, products=6, customers=3, seed=seed)


def place(shopify: Shopify, shop: Shop, rng: random.Random, *, paid: bool, currency: str | None = None) -> Order:
    return shopify.place(DOMAIN, basket(shop, rng), customer=None, currency=currency, paid=paid).order


def happen(shopify: Shopify, order: Order, what: str, rng: random.Random) -> None:
    """Let something happen to an order, unless Shopify would refuse it."""
    line = rng.choice(order.lines)
    pick = any_pick(shopify.shop(DOMAIN), rng)
    quantity, amount = rng.randint(1, 3), Decimal(rng.randint(1, 30_000)) / 100
    with suppress(RefusedError):
        match what:
            case "pay":
                shopify.pay(order.id)
            case "attach":
                shopify.attach(order.id, shopify.customers(DOMAIN)[0].id)
            case "add":
                shopify.edit(order.id, add=[pick], remove={})
            case "remove":
                shopify.edit(order.id, add=[], remove={line.id: quantity})
            case "refund lines":
                shopify.refund_lines(order.id, {line.id: quantity}, RestockType.RETURN)
            case "refund amount":
                shopify.refund_amount(order.id, amount)
            case "refund shipping":
                shopify.refund_shipping(order.id)
            case "refund rest":
                shopify.refund_rest(order.id, RestockType.RETURN)
            case "cancel":
                shopify.cancel(order.id, reason="other", refund=rng.random() < 0.5)


EVENTS = (
    "pay",
    "attach",
    "add",
    "remove",
    "refund lines",
    "refund amount",
    "refund shipping",
    "refund rest",
    "cancel",
)


@st.composite
def histories(draw: st.DrawFn) -> Order:
    """Give an order of any shop in any currency after up to eight events."""
    rng = random.Random(draw(st.integers(0, 2**32)))
    shopify, shop = open_shop(draw(CURRENCIES), seed=rng.randrange(1000))
    order = place(shopify, shop, rng, paid=draw(st.booleans()), currency=draw(CURRENCIES))
    for what in draw(st.lists(st.sampled_from(EVENTS), max_size=8)):
        happen(shopify, shopify.order(order.id), what, rng)
    return shopify.order(order.id)
