"""What is read from Shopify's resources, and what is refused."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sellflow.errors import InvalidPayloadError
from sellflow.loyalty.models import Order, OrderNews, Refund
from sellflow.loyalty.payloads import parse_news
from sellflow.queue.topics import Event
from tests.loyalty.orders import at, money_set, order, refund

PAID = "shopify.orders.paid"
REFUNDED = "shopify.refunds.create"
EDITED = "shopify.orders.edited"


def news(payload: bytes, topic: str = PAID) -> OrderNews:
    moment = datetime(2026, 11, 22, tzinfo=UTC)
    return parse_news(Event(date(2026, 11, 22), 1, 1, topic, "", payload, moment))


def read_order(payload: dict[str, Any]) -> Order:
    found = news(orjson.dumps(payload)).order
    assert found is not None
    return found


def read_refund(payload: dict[str, Any]) -> Refund:
    (found,) = news(orjson.dumps(payload), REFUNDED).refunds
    return found


def complaint(payload: bytes, topic: str = PAID) -> str:
    with pytest.raises(InvalidPayloadError) as caught:
        news(payload, topic)
    assert caught.value.__cause__ is None
    return str(caught.value)


def test_an_order_is_read_with_its_lines_and_refunds() -> None:
    line = {"id": 5, "product_id": 6, "variant_id": None, "quantity": 2, "price": "20.00"}
    discounts = [
        {"amount": "1.50"},
        {"amount": "0.50", "amount_set": {"shop_money": {"amount": "0.25", "currency_code": "USD"}}},
    ]
    found = news(
        orjson.dumps(order(line_items=[line | {"discount_allocations": discounts}], refunds=[refund(), refund(2)]))
    )
    assert found.order_id == 1001
    assert found.order is not None
    (bought,) = found.order.lines
    assert (bought.line_id, bought.product_id, bought.variant_id, bought.quantity) == (5, 6, None, 2)
    assert (bought.price, bought.discount) == (Decimal(20), Decimal("1.75"))
    assert [each.refund_id for each in found.refunds] == [1, 2]
    assert (found.order.customer_id, found.order.subtotal, found.order.currency) == (7, Decimal(25), "USD")


def test_shop_money_counts_and_presentment_money_is_kept_beside_it() -> None:
    found = read_order(order(currency="EUR", subtotal_price="22.10", subtotal_price_set=money_set("25.00", "22.10")))
    assert (found.subtotal, found.currency) == (Decimal(25), "USD")
    assert (found.presentment_subtotal, found.presentment_currency) == (Decimal("22.10"), "EUR")


@pytest.mark.parametrize("field", ["line_items", "refunds"])
@pytest.mark.parametrize("value", [None, []])
def test_null_and_missing_lists_are_empty(field: str, value: object) -> None:
    assert read_order(order() | {field: value}).order_id == 1001
    assert read_order({name: each for name, each in order().items() if name != field}).order_id == 1001


@pytest.mark.parametrize("field", ["refund_line_items", "order_adjustments", "transactions"])
def test_null_lists_of_a_refund_are_empty(field: str) -> None:
    assert read_refund(refund() | {field: None}).refund_id == 1


def test_an_order_without_customer_or_status_is_kept() -> None:
    found = read_order(order(customer=None, financial_status=None))
    assert (found.customer_id, found.financial_status) == (None, "pending")


def test_an_edit_names_its_order_and_nothing_else() -> None:
    assert news(b'{"order_edit": {"id": 1, "order_id": 1001}}', EDITED) == OrderNews(1001, None, ())


def test_a_refund_of_another_order_inside_an_order_is_left_out() -> None:
    assert news(orjson.dumps(order(refunds=[refund(1, 1002)]))).refunds == ()


@pytest.mark.parametrize("field", ["id", "currency"])
def test_a_missing_field_is_named(field: str) -> None:
    payload = order()
    del payload[field]
    assert f"{field}: Field required" in complaint(orjson.dumps(payload))


def test_a_subtotal_that_was_left_out_is_the_sum_of_the_lines() -> None:
    payload = order(line_items=[{"id": 5, "quantity": 3, "price": "7.00", "discount_allocations": [{"amount": "1"}]}])
    del payload["subtotal_price"]
    assert read_order(payload).subtotal == Decimal(20)


def test_without_lines_a_subtotal_is_the_total_less_shipping_and_tax() -> None:
    shipping = {"shop_money": {"amount": "5.00", "currency_code": "USD"}}
    payload = order(line_items=[], total_price="31.00", total_tax="1.00", total_shipping_price_set=shipping)
    del payload["subtotal_price"]
    assert read_order(payload).subtotal == Decimal(25)
    assert read_order(payload | {"taxes_included": True}).subtotal == Decimal(26)


def test_an_order_without_any_amount_is_refused() -> None:
    payload = order(line_items=[])
    del payload["subtotal_price"]
    assert "neither subtotal_price nor line_items nor total_price" in complaint(orjson.dumps(payload))


def test_a_negative_total_is_refused_although_the_subtotal_would_do() -> None:
    assert "total_price" in complaint(orjson.dumps(order(total_price="-31.00")))


def test_an_order_without_times_is_as_old_as_its_delivery() -> None:
    payload = order()
    del payload["created_at"], payload["updated_at"]
    assert read_order(payload).revised_at == read_order(payload).ordered_at


@pytest.mark.parametrize("field", ["id", "order_id"])
def test_a_missing_field_of_a_refund_is_named(field: str) -> None:
    payload = refund()
    del payload[field]
    assert f"{field}: Field required" in complaint(orjson.dumps(payload), REFUNDED)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", 0),
        ("id", -1),
        ("id", 2**63),
        ("id", "x"),
        ("id", 1.5),
        ("id", None),
        ("id", [1]),
        ("name", None),
        ("name", "x" * 256),
        ("name", "a\x00b"),
        ("customer", {"id": 0}),
        ("customer", {}),
        ("customer", 7),
        ("currency", "usd"),
        ("currency", "DOLLAR"),
        ("currency", None),
        ("subtotal_price", "-0.01"),
        ("subtotal_price", -25),
        ("subtotal_price", "NaN"),
        ("subtotal_price", "Infinity"),
        ("subtotal_price", "1e30"),
        ("subtotal_price", 1e30),
        ("subtotal_price", "10000000000.01"),
        ("subtotal_price", "9" * 5000),
        ("subtotal_price", ""),
        ("subtotal_price", "25,00"),
        ("subtotal_price", {}),
        ("subtotal_price_set", {"shop_money": {"amount": "-1", "currency_code": "USD"}}),
        ("subtotal_price_set", {"shop_money": None}),
        ("financial_status", 1),
        ("financial_status", "\x00"),
        ("created_at", "yesterday"),
        ("created_at", "0001-01-01T00:00:00+14:00"),
        ("updated_at", "9999-12-31T23:59:59-14:00"),
        ("cancelled_at", "never"),
        ("line_items", {}),
        ("line_items", [None]),
        ("line_items", [{"id": 1, "quantity": -1, "price": "1"}]),
        ("line_items", [{"id": 1, "quantity": 10**7, "price": "1"}]),
        ("line_items", [{"id": 1, "quantity": 1, "price": "-1"}]),
        ("refunds", [{}]),
        ("refunds", "none"),
    ],
)
def test_an_absurd_value_is_refused_by_name(field: str, value: object) -> None:
    assert field in complaint(orjson.dumps(order() | {field: value}))


@pytest.mark.parametrize("literal", [b"NaN", b"Infinity", b"-Infinity", b"1e400", b"9" * 5000])
def test_numbers_that_json_cannot_hold_are_refused(literal: bytes) -> None:
    complaint(orjson.dumps(order(subtotal_price="@")).replace(b'"@"', literal))


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"1", b'"order"', b"{", b"\xff", b"\x00", b"[" * 10_000])
@pytest.mark.parametrize("topic", [PAID, REFUNDED, EDITED])
def test_a_body_that_is_no_resource_is_refused(body: bytes, topic: str) -> None:
    assert f"not a valid {topic} payload" in complaint(body, topic)


def test_a_number_is_read_by_its_digits() -> None:
    assert read_order(order(subtotal_price=0.1)).subtotal == Decimal("0.1")
    assert read_order(order(subtotal_price=25)).subtotal == Decimal(25)


DISCREPANCY = {"kind": "refund_discrepancy"}
SHIPPING = {"kind": "shipping_refund", "amount": "-5.00"}


@pytest.mark.conformance
@pytest.mark.parametrize(
    ("fields", "amount", "currency"),
    [
        ({}, "10.00", None),
        ({"order_adjustments": [DISCREPANCY | {"amount": "-3.00"}]}, "13.00", None),
        ({"order_adjustments": [DISCREPANCY | {"amount": "4.00"}]}, "6.00", None),
        ({"order_adjustments": [DISCREPANCY | {"amount": "40.00"}]}, "0.00", None),
        (
            {
                "order_adjustments": [
                    DISCREPANCY
                    | {"amount": "3.50", "amount_set": {"shop_money": {"amount": "4.00", "currency_code": "USD"}}}
                ]
            },
            "6.00",
            None,
        ),
        ({"refund_line_items": [], "order_adjustments": [SHIPPING]}, "0.00", None),
        ({"order_adjustments": [SHIPPING, DISCREPANCY | {"amount": "-3.00"}]}, "13.00", None),
        ({"refund_line_items": [], "order_adjustments": [DISCREPANCY | {"amount": "-8.00"}]}, "8.00", None),
        ({"refund_line_items": []}, "10.00", "USD"),
        (
            {
                "refund_line_items": [],
                "transactions": [
                    {"kind": "refund", "status": "success", "amount": "4.00", "currency": "EUR"},
                    {"kind": "refund", "status": "pending", "amount": "5.00", "currency": "EUR"},
                    {"kind": "refund", "status": "failure", "amount": "99.00", "currency": "EUR"},
                    {"kind": "void", "status": "success", "amount": "99.00", "currency": "EUR"},
                ],
            },
            "9.00",
            "EUR",
        ),
        ({"refund_line_items": [], "transactions": []}, "0.00", None),
        (
            {
                "refund_line_items": [
                    {"line_item_id": 1, "quantity": 1, "subtotal": "8.00", "subtotal_set": money_set("9.00", "8.00")},
                    {"line_item_id": 1, "quantity": 1, "subtotal": "2.50"},
                ]
            },
            "11.50",
            None,
        ),
    ],
    ids=[
        "lines",
        "more than the lines",
        "less than the lines",
        "never below nothing",
        "discrepancy in shop money",
        "shipping only",
        "shipping beside lines",
        "goodwill without lines",
        "transactions only",
        "transactions in another currency",
        "empty",
        "one line twice",
    ],
)
def test_what_a_refund_gave_back_for_items(fields: dict[str, Any], amount: str, currency: str | None) -> None:
    found = read_refund(refund(**fields))
    assert (found.amount, found.currency) == (Decimal(amount), currency)


def test_of_two_snapshots_of_one_second_the_one_further_on_ranks_higher() -> None:
    history = [
        order(financial_status="pending"),
        order(financial_status="authorized"),
        order(financial_status="paid"),
        order(financial_status="partially_refunded", refunds=[refund()]),
        order(financial_status="refunded", refunds=[refund(), refund(2)]),
        order(financial_status="refunded", refunds=[refund(), refund(2)], cancelled_at=at(0)),
    ]
    ranks = [read_order(snapshot).revision_rank for snapshot in history]
    assert ranks == sorted(ranks)
    assert len(set(ranks)) == len(ranks)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(sorted(order())), json_values), st.sampled_from([PAID, REFUNDED, EDITED]))
def test_any_order_is_read_or_refused_and_nothing_else_happens(fields: dict[str, Any], topic: str) -> None:
    try:
        found = news(orjson.dumps(order() | fields), topic)
    except InvalidPayloadError:
        return
    assert found.order is None or 0 <= found.order.subtotal <= 10**10


@given(st.dictionaries(st.sampled_from(sorted(refund())), json_values))
def test_any_refund_is_read_or_refused_and_nothing_else_happens(fields: dict[str, Any]) -> None:
    try:
        found = news(orjson.dumps(refund() | fields), REFUNDED)
    except InvalidPayloadError:
        return
    assert all(each.amount >= 0 for each in found.refunds)
