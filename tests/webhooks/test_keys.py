"""What a webhook is about."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sellflow.webhooks.keys import KEY_FIELDS, event_key

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
fields = st.sampled_from(["id", "order_id", "order_edit", "inventory_item_id", "other"])
topics = st.sampled_from([f"{kind}/create" for kind in [*KEY_FIELDS, "app", "themes"]])


@pytest.mark.parametrize(
    ("topic", "body", "key"),
    [
        ("orders/paid", '{"id": 450789469}', "order:450789469"),
        ("orders/updated", '{"id": 9223372036854775807}', "order:9223372036854775807"),
        ("orders/edited", '{"order_edit": {"id": 1, "order_id": 2}}', "order:2"),
        ("refunds/create", '{"id": 1, "order_id": 2}', "order:2"),
        ("fulfillments/create", '{"id": 1, "order_id": 2}', "order:2"),
        ("order_transactions/create", '{"id": 1, "order_id": 2}', "order:2"),
        ("inventory_levels/update", '{"inventory_item_id": 3, "location_id": 4}', "inventory_item:3"),
        ("customers/update", '{"id": 5}', "customer:5"),
        ("products/update", '{"id": 6}', "product:6"),
        ("checkouts/create", '{"id": 7, "token": "t"}', "checkout:7"),
        ("carts/update", '{"id": "eeafa272cebfd4b22385bc4b645e762c"}', "cart:eeafa272cebfd4b22385bc4b645e762c"),
        ("app/uninstalled", '{"id": 8}', ""),
        ("themes/publish", '{"id": 9}', ""),
        ("orders/paid", '{"id": 123456789012345678901234567890}', ""),
        ("orders/paid", '{"id": 1e3}', ""),
        ("orders/paid", '{"id": true}', ""),
        ("orders/paid", '{"id": null}', ""),
        ("orders/paid", '{"id": [1]}', ""),
        ("orders/paid", '{"id": {"id": 1}}', ""),
        ("orders/paid", '{"id": ""}', ""),
        ("carts/update", '{"id": "with \\u0000 NUL"}', ""),
        ("carts/update", '{"id": "caf\\u00e9"}', ""),
        ("carts/update", '{"id": "' + "x" * 101 + '"}', ""),
        ("orders/edited", '{"order_edit": 1, "id": 2}', "order:2"),
        ("orders/edited", '{"order_edit": {}}', ""),
        ("orders/paid", "{}", ""),
        ("orders/paid", "[]", ""),
        ("orders/paid", "null", ""),
        ("orders/paid", '"id"', ""),
        ("orders/paid", "", ""),
        ("orders/paid", '{"id": 1', ""),
        ("orders/paid", '{"id": 1, "name": "#10', "order:1"),
        ("refunds/create", '{"id": 1, "order_id": 2, "note": "cut', "order:2"),
        ("refunds/create", '{"id": 1, "note": "first", "order_id": 2}', "order:2"),
        ("orders/paid", '{"name": "#1001", "id": 3}', "order:3"),
        ("orders/paid", '{"id": 12, "customer": {"id": 5}}', "order:12"),
        ("orders/paid", "[" * 100_000, ""),
        ("orders/paid", '{"id": NaN}', ""),
    ],
)
def test_the_key_says_what_the_body_is_about(topic: str, body: str, key: str) -> None:
    assert event_key(topic, body.encode()) == key


@given(topics, st.binary(max_size=200))
def test_no_bytes_raise(topic: str, body: bytes) -> None:
    event_key(topic, body)


@given(topics, st.dictionaries(fields, json_values))
def test_a_key_is_short_and_printable_whatever_the_body_holds(topic: str, body: dict[str, object]) -> None:
    key = event_key(topic, orjson.dumps(body))
    assert len(key) < 150
    assert key.isascii()
    assert key == "" or key.isprintable()
