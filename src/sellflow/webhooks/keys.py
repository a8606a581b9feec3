"""What a webhook is about: the key of its event, read from the body."""

from __future__ import annotations

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


def event_key(topic: str, body: bytes) -> str:
    """Return for example `order:450789469`, or the empty string where the body does not say.

    The body decides, not a header: headers are not signed. A body that is no JSON object has no key; it is stored
    all the same, and its handler says what is wrong with it.
    """
    try:
        resource = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    if not isinstance(resource, dict):
        return ""
    if isinstance(resource.get("order_edit"), dict):  # orders/edited: {"order_edit": {"order_id": …}}
        return _key("order", resource["order_edit"].get("order_id"))
    kind, field = KEY_FIELDS.get(topic.partition("/")[0], ("", ""))
    return _key(kind, resource.get(field)) if kind else ""


def _key(kind: str, identity: Any) -> str:  # noqa: ANN401 - untyped JSON
    """Join a kind and an id; ids are whole numbers, or tokens for carts and checkouts."""
    if isinstance(identity, int) and not isinstance(identity, bool):
        return f"{kind}:{identity}"
    if isinstance(identity, str) and 0 < len(identity) <= 100 and identity.isascii() and identity.isprintable():
        return f"{kind}:{identity}"
    return ""
