"""What of an event is about somebody, and what stays of it without them: pure, no I/O.

What stays is listed, not what goes: a field that Shopify adds tomorrow is personal until somebody says otherwise. A
field that stays must hold a number, a time, a code or an order's number besides; the rest of an order's figures then
go on being worked with, and a message that waits for its handler can still be handled.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from sellflow.shops.compliance.models import Person

#: Marks what was erased, with the request that it was erased for.
MARK = "erased_by"

#: Numbers, moments, codes such as partially_refunded, shopify.orders.paid or USD, and orders' own names.
_HARMLESS = re.compile(
    r"-?\d{1,20}(\.\d{1,12})?"
    r"|\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:?\d\d)?)?"
    r"|[a-z_]{1,40}(\.[a-z_]{1,40}){0,5}"
    r"|[A-Z]{3}"
    r"|order:\d{1,19}"
)
_ORDER_NAME = re.compile(r"[A-Z-]{0,8}#?[A-Z-]{0,8}\d{1,12}")
#: Ids from this size on are Shopify's: shorter runs of digits in a text may be anything.
LEAST_ID = 1_000_000
DEEPEST = 64


@dataclass(frozen=True, slots=True)
class Traits:
    """What somebody is recognised by: an id where one belongs, a pattern in text, and the bytes that either needs."""

    customer_id: int | None
    pattern: str | None
    needles: tuple[bytes, ...]


def pattern_of(person: Person) -> str | None:
    """Return a regular expression that Python and Postgres read alike, for mentions of somebody in free text."""
    parts = [re.escape(text) for text in (person.email, person.phone) if text]
    if person.customer_id is not None:
        parts.append(rf"customers?(_id)?[\"']?[ :=/]+[\"']?{person.customer_id}(?!\d)")
        if person.customer_id >= LEAST_ID:
            parts.append(rf"(?<!\d){person.customer_id}(?!\d)")
    return "|".join(parts) or None


def traits_of(person: Person) -> Traits:
    """Return what somebody is recognised by."""
    texts = {person.email, (person.email or "").lower(), person.phone} - {None, ""}
    if person.customer_id is not None:
        texts.add(str(person.customer_id))
    return Traits(person.customer_id, pattern_of(person), tuple(sorted(str(text).encode() for text in texts)))


def is_about(topic: str, payload: bytes, traits: Traits) -> bool:
    """Say whether a payload mentions somebody: by id where one belongs, or anywhere in its text."""
    parsed = _parsed(payload)
    if traits.customer_id is not None and traits.customer_id in set(customers_in(topic, parsed)):
        return True
    if traits.pattern is None:
        return False
    # The raw text and the parsed one, since JSON may spell a character in several ways.
    texts = [payload.decode(errors="replace"), *(each for each in _values(parsed) if isinstance(each, str))]
    return any(re.search(traits.pattern, text, re.IGNORECASE) for text in texts)


def customers_in(topic: str, parsed: object) -> Iterator[int]:
    """Yield the ids of customers that a parsed payload names where Shopify and we name them."""
    if topic.startswith("shopify.customers.") and isinstance(parsed, Mapping) and _is_id(parsed.get("id")):
        yield parsed["id"]
    for value in _values(parsed):
        if isinstance(value, Mapping):
            customer = value.get("customer")
            for found in (value.get("customer_id"), customer.get("id") if isinstance(customer, Mapping) else None):
                if isinstance(found, int) and _is_id(found):
                    yield found
        elif isinstance(value, str) and (named := re.search(r"gid://shopify/Customer/(\d{1,18})(?!\d)", value)):
            yield int(named[1])


def customers_of(topic: str, payload: bytes) -> set[int]:
    """Return the ids of customers that a payload names; none where it is no JSON."""
    return set(customers_in(topic, _parsed(payload)))


def _values(value: object) -> Iterator[object]:
    """Yield a value and everything in it. No recursion: somebody else decides how deep it goes."""
    left = [value]
    while left:
        each = left.pop()
        yield each
        if isinstance(each, Mapping):
            left += each.values()
        elif isinstance(each, list):
            left += each


def _is_id(value: Any) -> bool:  # noqa: ANN401 - untyped JSON
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def strip(
    topic: str, payload: bytes, *, keeps: Collection[str], customer_id: int | None, anonymous_id: int, mark: int
) -> bytes:
    """Return what stays of a payload. Stripping it again changes nothing.

    `keeps` are the names of fields that may stay; the customer's id is replaced where it stands as one.
    """
    parsed = _parsed(payload)
    if not isinstance(parsed, Mapping):
        parsed = {}
    elif _is_id(parsed.get(MARK)):
        mark = parsed[MARK]
    stripped = _stripped(parsed, frozenset(keeps), customer_id, anonymous_id, depth=0)
    if topic.startswith("shopify.customers.") and _is_id(stripped.get("id")):
        stripped["id"] = anonymous_id
    return orjson.dumps({**stripped, MARK: mark})


def _stripped(
    value: Mapping[str, Any], keeps: frozenset[str], customer_id: int | None, anonymous_id: int, *, depth: int
) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, each in value.items():
        if name == "customer_id":
            if isinstance(each, int) and (each < 0 or each == customer_id):
                kept[name] = min(each, 0) or anonymous_id
        elif name == "name" and depth > 0:
            continue  # goods are personalised; an order's own name is its number
        elif name in keeps and depth < DEEPEST:
            rest = _stripped_value(name, each, keeps, customer_id, anonymous_id, depth=depth)
            if rest is not None or each is None:
                kept[name] = rest
    return kept


def _stripped_value(
    name: str,
    value: Any,  # noqa: ANN401 - untyped JSON
    keeps: frozenset[str],
    customer_id: int | None,
    anonymous_id: int,
    *,
    depth: int,
) -> Any:  # noqa: ANN401
    if isinstance(value, Mapping):
        return _stripped(value, keeps, customer_id, anonymous_id, depth=depth + 1)
    if isinstance(value, list):
        parts = (each for each in value if isinstance(each, Mapping))
        return [_stripped(each, keeps, customer_id, anonymous_id, depth=depth + 1) for each in parts]
    if isinstance(value, str):
        allowed = _ORDER_NAME if name == "name" else _HARMLESS
        return value if allowed.fullmatch(value) else None
    return value


def _parsed(payload: bytes) -> Any:  # noqa: ANN401 - untyped JSON
    try:
        return orjson.loads(payload)
    except orjson.JSONDecodeError:
        return None
