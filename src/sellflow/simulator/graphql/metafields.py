"""Metafields: data that apps attach to resources, set atomically and compared by digest."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import orjson

from sellflow.simulator.graphql.connections import plain_page
from sellflow.simulator.graphql.fields import (
    Call,
    Fields,
    Value,
    find,
    id_of,
    moment,
    payload,
    refused,
    resource_of,
    user_error,
)
from sellflow.simulator.graphql.records import Metafield
from sellflow.simulator.ids import gid

MOST_AT_ONCE = 25
# What a metafield without a namespace belongs to; `$app:` begins the names that only its app may use.
APP_NAMESPACE = "app--1"
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_OWNER_TYPES = {"ProductVariant": "PRODUCTVARIANT", "AppInstallation": "API_PERMISSION"}


def namespace_of(name: str | None) -> str:
    """Return the full name of a namespace."""
    if name is None or name == "$app":
        return APP_NAMESPACE
    return f"{APP_NAMESPACE}--{name.removeprefix('$app:')}" if name.startswith("$app:") else name


def set_metafields(_source: object, call: Call) -> Value:
    """Resolve `metafieldsSet`: all of them or none."""
    wanted = call.arguments["metafields"]
    if len(wanted) > MOST_AT_ONCE:
        message = f"Exceeded the maximum metafields input limit of {MOST_AT_ONCE}."
        return refused(_complaint([], message, "LESS_THAN_OR_EQUAL_TO"), metafields=None)
    errors = [error for place, one in enumerate(wanted) for error in _errors(call, place, one)]
    if errors:
        return refused(*errors, metafields=None)
    return payload(metafields=[_set(call, one) for one in wanted])


def _errors(call: Call, place: int, wanted: Mapping[str, Any]) -> list[Value]:
    at = ["metafields", f"{place}"]
    checks: list[tuple[str, bool, str, str]] = [
        ("ownerId", find(call, wanted["ownerId"]) is not None, "Owner does not exist.", "INVALID"),
        ("key", len(wanted["key"]) >= 2, "Key is too short (minimum is 2 characters)", "TOO_SHORT"),
        ("key", len(wanted["key"]) <= 64, "Key is too long (maximum is 64 characters)", "TOO_LONG"),
        ("key", bool(_NAME.fullmatch(wanted["key"])), "Key contains one or more invalid characters.", "INVALID"),
        ("value", bool(wanted["value"]), "may not be empty", "BLANK"),
    ]
    found = [_complaint([*at, name], message, code, place) for name, is_right, message, code in checks if not is_right]
    return found or _type_errors(call, place, wanted) or _stale(call, place, wanted)


def _type_errors(call: Call, place: int, wanted: Mapping[str, Any]) -> list[Value]:
    known = _known(call, wanted)
    kind = wanted.get("type") or (known.type if known else None)
    at = ["metafields", f"{place}"]
    if kind is None:
        return [_complaint([*at, "type"], "Type can't be blank", "BLANK", place)]
    base = kind.removeprefix("list.")
    if base not in CHECKS and not base.endswith("_reference"):
        return [_complaint([*at, "type"], "Type must be one of the supported types.", "INVALID_TYPE", place)]
    if kind == base and base in CHECKS and not CHECKS[base](wanted["value"]):
        return [_complaint([*at, "value"], f"Value must be a valid {base}.", "INVALID_VALUE", place)]
    return []


def _stale(call: Call, place: int, wanted: Mapping[str, Any]) -> list[Value]:
    """Compare digests, if one is given: null stands for a metafield that must not exist yet."""
    if "compareDigest" not in wanted:
        return []
    known = _known(call, wanted)
    if wanted["compareDigest"] == (known.digest if known else None):
        return []
    message = "The resource has been updated since it was loaded. Try again with an updated `compareDigest` value."
    return [_complaint(["metafields", f"{place}"], message, "STALE_OBJECT", place)]


def _complaint(at: list[str], message: str, code: str, place: int | None = None) -> Value:
    return user_error(at or ["metafields"], message, code, elementIndex=place)


def _known(call: Call, wanted: Mapping[str, Any]) -> Metafield | None:
    place = (wanted["ownerId"], namespace_of(wanted.get("namespace")), wanted["key"])
    return call.world.admin.metafields.get(place)


def _set(call: Call, wanted: Mapping[str, Any]) -> Metafield:
    known, now = _known(call, wanted), call.world.now
    made = Metafield(
        id=known.id if known else call.world.shopify.ids(),
        owner=wanted["ownerId"],
        namespace=namespace_of(wanted.get("namespace")),
        key=wanted["key"],
        type=wanted.get("type") or (known.type if known else ""),
        value=wanted["value"],
        created_at=known.created_at if known else now,
        updated_at=now,
    )
    call.world.admin.metafields[made.owner, made.namespace, made.key] = made
    return made


def _is(read: Callable[[str], object]) -> Callable[[str], bool]:
    def check(value: str) -> bool:
        try:
            read(value)
        except ValueError:
            return False
        return True

    return check


CHECKS: Mapping[str, Callable[[str], bool]] = {
    "boolean": lambda value: value in ("true", "false"),
    "color": lambda value: bool(re.fullmatch(r"#[0-9a-fA-F]{6}", value)),
    "date": _is(lambda value: datetime.strptime(value, "%Y-%m-%d")),  # noqa: DTZ007 - a date has no zone
    "date_time": _is(datetime.fromisoformat),
    "dimension": _is(orjson.loads),
    "id": lambda _value: True,
    "json": _is(orjson.loads),
    "link": _is(orjson.loads),
    "money": _is(orjson.loads),
    "multi_line_text_field": lambda _value: True,
    "number_decimal": lambda value: bool(re.fullmatch(r"-?\d+(\.\d+)?", value)),
    "number_integer": lambda value: bool(re.fullmatch(r"-?\d+", value)),
    "rating": _is(orjson.loads),
    "rich_text_field": _is(orjson.loads),
    "single_line_text_field": lambda value: "\n" not in value,
    "url": lambda value: "://" in value or value.startswith("mailto:"),
    "volume": _is(orjson.loads),
    "weight": _is(orjson.loads),
}


def _json_value(found: Metafield, _call: Call) -> object:
    """Resolve `jsonValue`: the value as JSON where its type is more than text."""
    as_text = ("single_line_text_field", "multi_line_text_field", "url", "color", "id", "date", "date_time")
    if found.type in as_text or found.type.endswith("_reference"):
        return found.value
    return orjson.loads(found.value) if found.type != "number_decimal" else found.value


def _of(source: object, call: Call) -> list[Metafield]:
    owner = id_of(source, call)
    return [found for found in call.world.admin.metafields.values() if found.owner == owner]


def _one(source: object, call: Call) -> Metafield | None:
    place = (id_of(source, call), namespace_of(call.argument("namespace")), call.arguments["key"])
    return call.world.admin.metafields.get(place)


def _many(source: object, call: Call) -> Value:
    found, keys = _of(source, call), call.argument("keys")
    if call.argument("namespace") is not None:
        found = [one for one in found if one.namespace == namespace_of(call.argument("namespace"))]
    if keys is not None:
        found = [one for one in found if one.key in keys or f"{one.namespace}.{one.key}" in keys]
    return plain_page(found, call, lambda one: one.id)


#: The fields of every type that may have metafields.
METAFIELDS: Fields[Any] = {"metafield": _one, "metafields": _many}

METAFIELD: Fields[Metafield] = {
    "id": lambda found, _: gid("Metafield", found.id),
    "legacyResourceId": lambda found, _: f"{found.id}",
    "namespace": lambda found, _: found.namespace,
    "key": lambda found, _: found.key,
    "type": lambda found, _: found.type,
    "value": lambda found, _: found.value,
    "jsonValue": _json_value,
    "compareDigest": lambda found, _: found.digest,
    "sizeInBytes": lambda found, _: len(found.value.encode()),
    "definition": lambda _found, _: None,
    "owner": lambda found, call: find(call, found.owner),
    "ownerType": lambda found, _: _OWNER_TYPES.get(resource_of(found.owner), resource_of(found.owner).upper()),
    "createdAt": lambda found, _: moment(found.created_at),
    "updatedAt": lambda found, _: moment(found.updated_at),
}

FIELDS: Mapping[str, Fields[Any]] = {"Metafield": METAFIELD}
