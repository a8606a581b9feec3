"""What stays of a payload: figures, times and codes, and never what a customer said or is called."""

from __future__ import annotations

import re
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sellflow.loyalty.payloads import FIELDS, parse_news
from sellflow.queue import Event
from sellflow.shops.compliance.models import Person
from sellflow.shops.compliance.redaction import MARK, customers_of, is_about, pattern_of, strip, traits_of
from tests.loyalty.orders import MORNING, refund
from tests.shops.compliance.people import ODALYS, ZEPHYRINE, Someone

SECRET = "Zq!x~ personal"

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20) | st.just(SECRET),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from([*sorted(FIELDS), "note", "customer", "customer_id", "email"]), inner, max_size=6
        )
    ),
    max_leaves=40,
)


def person_of(who: Someone) -> Person:
    return Person(who.customer_id, who.email, who.phone, frozenset())


def stripped(payload: bytes, *, topic: str = "shopify.orders.updated", customer_id: int | None = 7) -> Any:  # noqa: ANN401
    return orjson.loads(strip(topic, payload, keeps=FIELDS, customer_id=customer_id, anonymous_id=-5, mark=3))


@given(json_values)
def test_no_free_text_stays_and_stripping_twice_changes_nothing(value: object) -> None:
    once = strip("shopify.orders.paid", orjson.dumps(value), keeps=FIELDS, customer_id=7, anonymous_id=-5, mark=3)
    assert SECRET.encode() not in once
    again = strip("shopify.orders.paid", once, keeps=FIELDS, customer_id=7, anonymous_id=-9, mark=4)
    assert again == once


@given(st.binary(max_size=200))
def test_any_bytes_can_be_stripped(payload: bytes) -> None:
    assert stripped(payload)[MARK] == 3


@pytest.mark.parametrize("opening", [b"[", b'{"customer":', b'{"line_items":['])
def test_a_payload_may_be_as_deep_as_it_likes(opening: bytes) -> None:
    depth = 1000
    closing = {91: b"]", 123: b"}"}
    payload = (
        opening * (depth // 2)
        + b"1"
        + b"".join(closing[each] for each in reversed(opening * (depth // 2)) if each in closing)
    )
    assert stripped(payload)[MARK] == 3
    assert is_about("shopify.orders.paid", payload, traits_of(person_of(ZEPHYRINE))) is False


@given(st.integers(1, 10**6), st.booleans())
def test_a_handler_reads_the_same_figures_of_a_stripped_order(order_id: int, is_cancelled: bool) -> None:
    payload = ZEPHYRINE.order(
        order_id,
        refunds=[refund(1, order_id)],
        cancelled_at="2026-11-23T00:00:00Z" if is_cancelled else None,
        total_tax="1.00",
    )

    def news(body: bytes) -> Any:  # noqa: ANN401
        return parse_news(Event(MORNING.date(), 1, 1, "shopify.orders.updated", "", body, MORNING))

    raw = orjson.dumps(payload)
    before = news(raw)
    after = news(strip("shopify.orders.updated", raw, keeps=FIELDS, customer_id=1, anonymous_id=-5, mark=3))
    assert after.refunds == before.refunds
    same = before.order._replace(customer_id=None, revision_rank=after.order.revision_rank)
    assert after.order == same
    assert after.order.revision_rank[:-16] == before.order.revision_rank[:-16], "but for the digest of the bytes"


def test_a_customers_id_is_replaced_where_it_stands_as_one() -> None:
    earned = orjson.dumps({"transfer_id": 1, "customer_id": 7, "points": 7, "balance": 7, "source": "order:7"})
    keeps = FIELDS | {"transfer_id", "points", "balance", "source"}
    found = orjson.loads(strip("loyalty.points.earned", earned, keeps=keeps, customer_id=7, anonymous_id=-5, mark=3))
    assert found == {"transfer_id": 1, "customer_id": -5, "points": 7, "balance": 7, "source": "order:7", MARK: 3}
    assert stripped(b'{"id": 7, "updated_at": "2026-11-22"}', topic="shopify.customers.update") == {
        "id": -5,
        "updated_at": "2026-11-22",
        MARK: 3,
    }
    assert "customer_id" not in stripped(b'{"customer_id": 8}'), "whose else it is"


@pytest.mark.parametrize(
    "value", ["Zephyrine", "call me", "a@b.example", "+15550109876", "77 Mews", "O'Neil", "jos\u00e9", "customer:7"]
)
def test_what_looks_like_no_code_does_not_stay_in_any_field(value: str) -> None:
    payload = orjson.dumps(dict.fromkeys(FIELDS, value))
    assert stripped(payload) == {MARK: 3}


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        ("shopify.orders.paid", {"customer": {"id": ZEPHYRINE.customer_id}}),
        ("shopify.checkouts.create", {"deep": [{"billing": {"email": ZEPHYRINE.email.upper()}}]}),
        ("shopify.checkouts.create", {"text": f"call {ZEPHYRINE.phone}, please"}),
        ("loyalty.points.earned", {"customer_id": ZEPHYRINE.customer_id}),
        ("shopify.customers.update", {"id": ZEPHYRINE.customer_id}),
        ("shopify.customers.merge", {"kept": f"gid://shopify/Customer/{ZEPHYRINE.customer_id}"}),
        ("queue.dead_letter", {"error_message": f"no greeting, customer {ZEPHYRINE.customer_id}"}),
    ],
)
def test_a_mention_is_found_and_is_nobody_elses(topic: str, payload: dict[str, Any]) -> None:
    body = orjson.dumps(payload)
    assert is_about(topic, body, traits_of(person_of(ZEPHYRINE)))
    assert not is_about(topic, body, traits_of(person_of(ODALYS)))


def test_a_mention_is_found_however_json_spells_it() -> None:
    body = ZEPHYRINE.email.encode().replace(b"@", b"\\u0040")
    assert is_about("shopify.carts.update", b'{"email": "' + body + b'"}', traits_of(person_of(ZEPHYRINE)))


def test_an_id_that_is_a_part_of_another_number_is_none() -> None:
    traits = traits_of(Person(694, None, None, frozenset()))
    assert not is_about("shopify.orders.paid", b'{"id": 694, "customer": {"id": 6940}, "total": "694.00"}', traits)
    assert customers_of("shopify.orders.paid", b'{"customer": {"id": true}, "customer_id": "x"}') == set()


@given(st.emails(), st.text(min_size=5, max_size=20))
def test_a_pattern_finds_what_it_was_made_of(email: str, phone: str) -> None:
    pattern = pattern_of(Person(None, email, phone, frozenset()))
    assert pattern is not None
    assert re.search(pattern, f"to <{email}>", re.IGNORECASE)
    assert re.search(pattern, f"tel:{phone};", re.IGNORECASE)
