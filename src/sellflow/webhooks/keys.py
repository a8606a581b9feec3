"""What a webhook is about: the key of its event, read from the body."""

from __future__ import annotations

import re
from typing import Any

import orjson

#: By the first part of the topic: what the event is about, and the field that holds its id.
KEY_FIELDS = {
    "orders": ("order", "id"),
    "refunds": ("order", "order_id"),
    "fulfillments": ("order", "order_id"),
    "order_transactions": ("order", "order_id"),
    "inventory_levels": ("inventory_item", "inventory_item_id"),
    "customers": ("customer", "id"),
    "products": ("product", "id"),
    "checkouts": ("checkout", "id"),
    "carts": ("cart", "id"),
}


#: How Shopify's resources begin: {"id":450789469, and of what belongs to an order {"id":1,"order_id":450789469,
#: Reading that far spares parsing the whole body, and finds the key of one that is cut off, too.
LEADING_ID = {
    "id": re.compile(rb'\s*\{\s*"id"\s*:\s*([1-9]\d{0,17})\s*,'),
    "order_id": re.compile(rb'\s*\{\s*"id"\s*:\s*\d{1,18}\s*,\s*"order_id"\s*:\s*([1-9]\d{0,17})\s*,'),
}


def event_key(topic: str, body: bytes) -> str:
    """Return for example `order:450789469`, or the empty string where the body does not say.

    The body decides, not a header: headers are not signed. A body that is no JSON object has no key; it is stored
    all the same, and its handler says what is wrong with it.
    """
    kind, field = KEY_FIELDS.get(topic.partition("/")[0], ("", ""))
    leading = LEADING_ID[field].match(body) if field in LEADING_ID else None
    return f"{kind}:{leading[1].decode()}" if leading else _parsed_key(kind, field, body)


def _parsed_key(kind: str, field: str, body: bytes) -> str:
    """Return the key of a body that begins otherwise."""
    try:
        resource = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    if not isinstance(resource, dict):
        return ""
    if isinstance(resource.get("order_edit"), dict):  # orders/edited: {"order_edit": {"order_id": …}}
        return _key("order", resource["order_edit"].get("order_id"))
    if kind == "customer" and "id" not in resource and isinstance(resource.get("customer"), dict):
        return _key(kind, resource["customer"].get("id"))  # customers/redact and data_request: {"customer": {"id": …}}
    return _key(kind, resource.get(field)) if kind else ""


def _key(kind: str, identity: Any) -> str:  # noqa: ANN401 - untyped JSON
    """Join a kind and an id; ids are whole numbers, or tokens for carts and checkouts."""
    if isinstance(identity, int) and not isinstance(identity, bool):
        return f"{kind}:{identity}"
    if isinstance(identity, str) and 0 < len(identity) <= 100 and identity.isascii() and identity.isprintable():
        return f"{kind}:{identity}"
    return ""
