"""The arithmetic of order payloads, read the way a consumer reads them: from the JSON alone."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sellflow.simulator.models import Order, RestockType
from sellflow.simulator.money import decimals, text
from sellflow.simulator.order_payloads import order_payload
from sellflow.simulator.stories import any_pick

from .histories import CURRENCIES, DOMAIN, histories, open_shop, place

SIDES = ("shop_money", "presentment_money")
Payload = dict[str, Any]


def received(order: Order) -> Payload:
    payload: Payload = json.loads(orjson.dumps(order_payload(order)))
    return payload


def amount(money_set: Payload, side: str) -> Decimal:
    return Decimal(money_set[side]["amount"])


def add(amounts: Iterable[Decimal]) -> Decimal:
    return sum(amounts, Decimal(0))


def returned(payload: Payload) -> list[Payload]:
    return [line for refund in payload["refunds"] for line in refund["refund_line_items"]]


@given(histories(), st.sampled_from(SIDES))
@settings(deadline=None)
def test_lines_after_discounts_add_up_to_the_subtotal(order: Order, side: str) -> None:
    payload = received(order)
    gross = add(amount(line["price_set"], side) * line["quantity"] for line in payload["line_items"])
    discounts = add(
        amount(share["amount_set"], side) for line in payload["line_items"] for share in line["discount_allocations"]
    )

    assert amount(payload["total_line_items_price_set"], side) == gross
    assert amount(payload["total_discounts_set"], side) == discounts
    assert amount(payload["subtotal_price_set"], side) == gross - discounts


@given(histories(), st.sampled_from(SIDES))
@settings(deadline=None)
def test_the_total_is_subtotal_shipping_and_what_tax_comes_on_top(order: Order, side: str) -> None:
    payload = received(order)
    tax = add(
        amount(line["price_set"], side)
        for taxed in (*payload["line_items"], *payload["shipping_lines"])
        for line in taxed["tax_lines"]
    )
    on_top = Decimal(0) if payload["taxes_included"] else tax

    assert amount(payload["total_tax_set"], side) == tax
    assert amount(payload["total_price_set"], side) == (
        amount(payload["subtotal_price_set"], side) + amount(payload["total_shipping_price_set"], side) + on_top
    )


@given(histories(), st.sampled_from(SIDES))
@settings(deadline=None)
def test_current_amounts_are_the_original_ones_less_what_was_returned(order: Order, side: str) -> None:
    payload = received(order)
    goods = add(amount(line["subtotal_set"], side) for line in returned(payload))
    tax = add(amount(line["total_tax_set"], side) for line in returned(payload))
    shipped_back = [line for refund in payload["refunds"] for line in refund["refund_shipping_lines"]]
    shipping = add(amount(line["subtotal_amount_set"], side) for line in shipped_back)
    tax += add(amount(line["tax_amount_set"], side) for line in shipped_back)
    on_top = Decimal(0) if payload["taxes_included"] else tax

    for name, back in (
        ("subtotal_price", goods),
        ("total_tax", tax),
        ("total_price", goods + shipping + on_top),
    ):
        current = amount(payload[f"current_{name}_set"], side)
        assert current == amount(payload[f"{name}_set"], side) - back
        assert current >= 0


@given(histories())
@settings(deadline=None)
def test_no_more_pieces_come_back_than_were_sold(order: Order) -> None:
    payload = received(order)
    for line in payload["line_items"]:
        back = sum(done["quantity"] for done in returned(payload) if done["line_item_id"] == line["id"])
        assert line["current_quantity"] == line["quantity"] - back
        assert 0 <= line["current_quantity"] <= line["quantity"]


@given(histories())
@settings(deadline=None)
def test_no_more_money_goes_back_than_came_in(order: Order) -> None:
    paid = add(done.amount.presentment for done in order.transactions)
    back = [Decimal(done["amount"]) for refund in received(order)["refunds"] for done in refund["transactions"]]

    assert add(back) <= paid
    assert all(one >= 0 for one in back)


@given(histories())
@settings(deadline=None)
def test_what_a_refund_pays_is_its_goods_its_shipping_and_its_adjustment(order: Order) -> None:
    payload = received(order)
    for refund in payload["refunds"]:
        if not refund["transactions"]:
            continue
        lines = refund["refund_line_items"]
        due = add(amount(line["subtotal_set"], "presentment_money") for line in lines)
        adjustments = refund["order_adjustments"]
        due -= add(amount(one["amount_set"], "presentment_money") for one in adjustments)
        if not payload["taxes_included"]:
            due += add(amount(line["total_tax_set"], "presentment_money") for line in lines)
            due -= add(amount(one["tax_amount_set"], "presentment_money") for one in adjustments)
        assert due == Decimal(refund["transactions"][0]["amount"])


@given(histories())
@settings(deadline=None)
def test_both_currencies_tell_the_same_story_up_to_rounding(order: Order) -> None:
    payload, rate = received(order), order.exchange.rate
    pieces = sum(line["quantity"] for line in payload["line_items"])
    unit = Decimal(1).scaleb(-decimals(order.exchange.shop)) * rate
    unit += Decimal(1).scaleb(-decimals(order.exchange.presentment))

    for name in (
        "subtotal_price_set",
        "current_subtotal_price_set",
        "total_price_set",
        "total_discounts_set",
    ):
        shop, presentment = (amount(payload[name], side) for side in SIDES)
        assert abs(presentment - shop * rate) <= unit * (pieces + 10)


@given(histories())
@settings(deadline=None)
def test_amounts_have_the_decimals_of_their_currency(order: Order) -> None:
    payload = received(order)
    sets = [value for name, value in payload.items() if name.endswith("_set") and value]
    for side in (one for money in sets for one in money.values()):
        assert len(side["amount"].partition(".")[2]) == decimals(side["currency_code"])


@given(histories())
@settings(deadline=None)
def test_identifiers_within_one_order_never_repeat(order: Order) -> None:
    ids = [
        order.id,
        order.shipping_id,
        *(line.id for line in order.lines),
        *(one.id for one in order.transactions),
    ]
    for refund in order.refunds:
        ids += [refund.id, *(line.id for line in refund.lines)]
        if refund.transaction:
            ids += [refund.transaction.id, *refund.adjustment_ids]
    assert len(ids) == len(set(ids))
    assert max(ids) < 2**53


@given(st.integers(0, 2**32), CURRENCIES, CURRENCIES)
@settings(deadline=None)
def test_refunding_piece_by_piece_gives_back_exactly_what_was_paid(seed: int, currency: str, presentment: str) -> None:
    shopify, shop = open_shop(currency)
    order = place(shopify, shop, random.Random(seed), paid=True, currency=presentment)
    pieces = [line.id for line in order.lines for _ in range(line.quantity)]
    for line_id in pieces:
        shopify.refund_lines(order.id, {line_id: 1}, RestockType.RETURN)
    if order.shipping.shop:
        shopify.refund_shipping(order.id)

    payload = received(shopify.order(order.id))

    assert payload["financial_status"] == "refunded"
    assert Decimal(payload["current_total_price"]) == 0
    assert Decimal(payload["total_outstanding"]) == 0
    assert not any(
        one["kind"] == "refund_discrepancy" for refund in payload["refunds"] for one in refund["order_adjustments"]
    )


def test_a_payload_has_a_realistic_size() -> None:
    shopify, shop = open_shop()
    rng = random.Random(3)
    sizes = [len(orjson.dumps(order_payload(place(shopify, shop, rng, paid=True)))) for _ in range(50)]

    assert min(sizes) > 3_000
    assert max(sizes) < 16_000


def test_removing_pieces_by_an_edit_looks_like_a_refund_that_paid_nothing() -> None:
    shopify, shop = open_shop()
    order = place(shopify, shop, random.Random(1), paid=True)
    payload = received(shopify.edit(order.id, add=[], remove={order.lines[0].id: 1}).order)

    (refund,) = payload["refunds"]
    assert refund["transactions"] == []
    assert [line["quantity"] for line in refund["refund_line_items"]] == [1]
    assert payload["financial_status"] == "paid"


def test_an_added_line_is_owed_until_it_is_paid() -> None:
    shopify, shop = open_shop()
    order = place(shopify, shop, random.Random(1), paid=True)
    edited = received(shopify.edit(order.id, add=[any_pick(shop, random.Random(1))], remove={}).order)
    paid = received(shopify.pay(order.id).order)

    assert edited["financial_status"] == "partially_paid"
    assert Decimal(edited["total_outstanding"]) > 0
    assert paid["financial_status"] == "paid"


def test_a_guest_order_gets_its_customer_later() -> None:
    shopify, shop = open_shop()
    order = place(shopify, shop, random.Random(1), paid=True)
    customer = shopify.customers(DOMAIN)[0]

    assert received(order)["customer"] is None
    assert received(shopify.attach(order.id, customer.id).order)["customer"]["id"] == customer.id


@pytest.mark.parametrize(("currency", "expected"), [("JPY", "9000"), ("USD", "9000.00"), ("KWD", "9000.000")])
def test_money_is_written_the_way_its_currency_is(currency: str, expected: str) -> None:
    assert text(Decimal(9000), currency) == expected
