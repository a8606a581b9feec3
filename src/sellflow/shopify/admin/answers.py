"""Reads an answer of the Admin API: what it says, what it cost, or which error it is. Pure.

Status codes: https://shopify.dev/docs/api/usage/response-codes; errors in the body:
https://shopify.dev/docs/api/admin-graphql (a query that is throttled is answered with 200).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from sellflow.shopify.admin.errors import (
    AccessDeniedError,
    AdminError,
    GraphQLError,
    InternalError,
    NoAnswerError,
    QueryRefusedError,
    RedirectedError,
    RequestRefusedError,
    ServerError,
    ShopClosedError,
    ThrottledError,
    TooExpensiveError,
    TooManyRequestsError,
    UnauthorizedError,
)

#: Seconds that a 429 without a proper Retry-After asks for, and the most that any may ask for.
USUAL_PAUSE = 2.0
LONGEST_PAUSE = 300.0
LONGEST_MESSAGE = 500

STATUSES: dict[int, tuple[type[AdminError], str]] = {
    401: (UnauthorizedError, "it refuses the access token; the shop has to be installed again"),
    402: (ShopClosedError, "the shop is frozen until its bill is paid"),
    404: (ShopClosedError, "there is no such shop"),
    423: (ShopClosedError, "the shop is locked"),
    # A proxy's words as often as Shopify's, so no reason to give anything up.
    403: (AdminError, "it forbids the call"),
    408: (AdminError, "the request took too long"),
    425: (AdminError, "it is too early"),
}
REFUSALS: dict[str, type[QueryRefusedError]] = {
    "ACCESS_DENIED": AccessDeniedError,
    "MAX_COST_EXCEEDED": TooExpensiveError,
}


@dataclass(frozen=True, slots=True)
class Cost:
    """What an answer says of the bucket: `available` is None where it says nothing of it."""

    requested: float | None = None
    actual: float | None = None
    available: float | None = None
    maximum: float | None = None
    restore_rate: float | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that was understood: `data`, or the error it is. `data` beside an error is what there is in part."""

    cost: Cost
    data: dict[str, Any] | None = None
    error: AdminError | None = None


def read_answer(status: int, headers: Mapping[str, str], body: bytes, now: datetime) -> Reply:
    """Return what an answer says; whatever it is, it is one of ours."""
    if status != 200:
        return Reply(Cost(), error=_of_status(status, headers, now))
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return Reply(Cost(), error=NoAnswerError("the answer is no JSON"))
    if not isinstance(found, dict) or not found.keys() & {"data", "errors"}:
        return Reply(Cost(), error=NoAnswerError("the answer is JSON, but neither data nor errors"))
    data = found.get("data") if isinstance(found.get("data"), dict) else None
    cost = _cost(found)
    if found.get("errors"):
        return Reply(cost, data, _of_errors(_errors(found["errors"]), cost))
    if data is None:
        return Reply(cost, error=NoAnswerError("the answer holds no data"))
    return Reply(cost, data)


def _of_status(status: int, headers: Mapping[str, str], now: datetime) -> AdminError:
    if status == 429:
        seconds = pause_of(headers.get("retry-after"), now)
        return TooManyRequestsError(f"Shopify asks to be left alone for {seconds:g} s", seconds=seconds)
    kind, words = _meaning(status)
    return kind(f"Shopify answered {status}: {words}")


def _meaning(status: int) -> tuple[type[AdminError], str]:
    """Return the error that a status is, and what to tell of it."""
    if status in STATUSES:
        return STATUSES[status]
    for kind, least, words in (
        (ServerError, 500, "it is in trouble"),
        (RequestRefusedError, 400, "it refuses the request"),
        (RedirectedError, 300, "it points elsewhere; check the shop's address"),
    ):
        if status >= least:
            return kind, words
    return NoAnswerError, "that is no answer to a query"


def pause_of(header: str | None, now: datetime) -> float:
    """Return the seconds of a Retry-After header: a number or a date, and never without end."""
    try:
        seconds = float(header or "")
    except ValueError:
        seconds = _until(header or "", now)
    return min(max(seconds, 0.0), LONGEST_PAUSE) if math.isfinite(seconds) else USUAL_PAUSE


def _until(date: str, now: datetime) -> float:
    try:
        moment = parsedate_to_datetime(date)
    except (TypeError, ValueError):
        return math.nan
    return (moment.replace(tzinfo=moment.tzinfo or UTC) - now).total_seconds()


def _errors(found: object) -> list[GraphQLError]:
    """Return the errors of a body; Shopify itself sends a mere string in places."""
    listed = found if isinstance(found, list) else [found]
    return [
        _error(each) if isinstance(each, dict) else GraphQLError(str(each)[:LONGEST_MESSAGE], "") for each in listed
    ]


def _error(found: dict[str, Any]) -> GraphQLError:
    extensions = found.get("extensions")
    code = extensions.get("code") if isinstance(extensions, dict) else None
    path = found.get("path")
    return GraphQLError(
        str(found.get("message", ""))[:LONGEST_MESSAGE],
        code if isinstance(code, str) else "",
        ".".join(str(part) for part in path) if isinstance(path, list) else "",
    )


def _of_errors(errors: list[GraphQLError], cost: Cost) -> AdminError:
    """Return the error that decides what to do: one that passes by goes before one that stays."""
    codes = {each.code for each in errors}
    said = "; ".join(filter(None, (each.message for each in errors)))[:LONGEST_MESSAGE]
    if "THROTTLED" in codes:
        return ThrottledError("Shopify has no points left for this", seconds=_restored_in(cost))
    if codes & {"INTERNAL_SERVER_ERROR", "TIMEOUT"}:
        return InternalError(f"Shopify failed inside: {said}")
    if "SHOP_INACTIVE" in codes:
        return ShopClosedError("the shop is inactive")
    kind = next((REFUSALS[each.code] for each in errors if each.code in REFUSALS), QueryRefusedError)
    return kind(f"Shopify refuses the query: {said}", errors)


def _restored_in(cost: Cost) -> float:
    if None in (cost.requested, cost.available) or not cost.restore_rate:
        return 1.0
    assert cost.requested is not None
    assert cost.available is not None
    return max((cost.requested - cost.available) / cost.restore_rate, 0.1)


def _cost(found: dict[str, Any]) -> Cost:
    """Return what the body says of costs. Some plans are told nothing, and nothing that is told is trusted blindly."""
    extensions = found.get("extensions")
    cost = extensions.get("cost") if isinstance(extensions, dict) else None
    if not isinstance(cost, dict):
        return Cost()
    status = cost.get("throttleStatus")
    status = status if isinstance(status, dict) else {}
    told = Cost(
        requested=_number(cost.get("requestedQueryCost")),
        actual=_number(cost.get("actualQueryCost")),
        available=_number(status.get("currentlyAvailable"), least=-math.inf),
        maximum=_number(status.get("maximumAvailable"), least=1),
        restore_rate=_number(status.get("restoreRate"), least=0.1),
    )
    if None in (told.available, told.maximum, told.restore_rate):
        return Cost(told.requested, told.actual)
    return told


def _number(value: object, *, least: float = 0) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < least:
        return None
    return float(value)
