"""Control routes of the Admin API: its limits, its journal, its faults, and what a merchant or a stranger does."""

from __future__ import annotations

from dataclasses import replace
from html import escape
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from sellflow.errors import NotFoundError
from sellflow.simulator.graphql.bucket import RESTORE_RATES, Bucket
from sellflow.simulator.graphql.calls import ApiCounts
from sellflow.simulator.graphql.endpoint import graphql
from sellflow.simulator.graphql.faults import ApiFault
from sellflow.simulator.graphql.records import Subscription
from sellflow.simulator.graphql.shops import AdminShop
from sellflow.simulator.routing import answer, json_answer, lines_answer, parsed, simulator_of
from sellflow.simulator.schemas import Faults


class _Input(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BucketInput(_Input):
    """What to change about the buckets of a shop's apps: `level` is what is left in them."""

    plan: Literal["standard", "advanced", "plus", "enterprise"] | None = None
    restore_rate: float | None = Field(default=None, gt=0)
    maximum: float | None = Field(default=None, gt=0)
    level: float | None = Field(default=None, ge=0)


class DrainInput(_Input):
    """Points that a foreign app user takes: once, or `every` so many seconds; 0 points send the stranger away."""

    points: float = Field(ge=0)
    every: float | None = Field(default=None, ge=0.1)


class AgeInput(_Input):
    """Seconds by which to make idempotency keys older."""

    seconds: float = Field(gt=0)


class BulkInput(_Input):
    """How fast bulk operations go; those that are on hold finish nothing."""

    objects_a_step: int = Field(default=100, ge=1)
    seconds_a_step: float = Field(default=0.0, ge=0)
    hold: bool = False


class DrainShown(BaseModel):
    """What the stranger took."""

    at: float
    points: float


class BucketShown(BaseModel):
    """A bucket now. `drained` counts points that the stranger took, in `drains` goes."""

    maximum: float
    level: float
    restore_rate: float
    drains: int
    drained: float
    last_drains: list[DrainShown]


class AdminShown(BaseModel):
    """The Admin API of a shop: counts over all apps, and the bucket of each app that has called."""

    at: float
    version: str
    counts: ApiCounts
    buckets: dict[str, BucketShown]
    faults: list[ApiFault]


async def show(request: Request) -> Response:
    """GET /shops/{domain}/admin-api: counters, buckets and faults."""
    admin = _admin(request)
    return answer(
        AdminShown(
            at=admin.clock(),
            version=simulator_of(request).admin.version,
            counts=admin.calls.counts,
            buckets={client_id: _bucket(lane.bucket) for client_id, lane in admin.lanes.items()},
            faults=admin.faults.listed(),
        )
    )


async def list_calls(request: Request) -> Response:
    """GET /shops/{domain}/admin-api/calls: one line per call, in the order of their answers."""
    return lines_answer(list(_admin(request).calls.calls))


async def clear_calls(request: Request) -> Response:
    """DELETE /shops/{domain}/admin-api/calls: forget the calls and count anew."""
    _admin(request).calls.clear()
    return json_answer({})


async def change_bucket(request: Request) -> Response:
    """PUT /shops/{domain}/admin-api/bucket: the plan, the rate, the size or the level of the shop's buckets."""
    wanted, admin = await parsed(request, BucketInput), _admin(request)
    rate = RESTORE_RATES[wanted.plan] if wanted.plan else wanted.restore_rate
    for bucket in admin.buckets():
        bucket.configure(restore_rate=rate, maximum=wanted.maximum, level=wanted.level)
    return answer(_bucket(admin.bucket))


async def drain(request: Request) -> Response:
    """POST /shops/{domain}/admin-api/drain: let a foreign app user take points, now or again and again."""
    wanted, admin = await parsed(request, DrainInput), _admin(request)
    for bucket in admin.buckets():
        if wanted.every is None and wanted.points:
            bucket.drain(wanted.points)
        else:
            bucket.drain_every(wanted.every if wanted.points else None, wanted.points)
    return answer(_bucket(admin.bucket))


async def add_fault(request: Request) -> Response:
    """POST /shops/{domain}/admin-api/faults: let calls go wrong."""
    admin = _admin(request)
    admin.faults.add(await parsed(request, ApiFault))
    return json_answer({"faults": [fault.model_dump() for fault in admin.faults.listed()]})


async def clear_faults(request: Request) -> Response:
    """DELETE /shops/{domain}/admin-api/faults: let everything go well again."""
    _admin(request).faults.clear()
    return json_answer({})


async def age_keys(request: Request) -> Response:
    """POST /shops/{domain}/admin-api/idempotency-keys/age: make the keys older."""
    wanted = await parsed(request, AgeInput)
    for lane in _admin(request).lanes.values():
        lane.keys.age(wanted.seconds)
    return json_answer({})


async def pace_bulk(request: Request) -> Response:
    """PUT /shops/{domain}/admin-api/bulk: how fast bulk operations go."""
    wanted, pace = await parsed(request, BulkInput), _admin(request).bulk_pace
    pace.step, pace.seconds = wanted.objects_a_step, wanted.seconds_a_step
    if wanted.hold:
        pace.gate.clear()
    else:
        pace.gate.set()
    return json_answer({})


async def bulk_result(request: Request) -> Response:
    """GET /shops/{domain}/bulk-results/{id}.jsonl: an operation's file; like Shopify's, it asks for no token."""
    found = _admin(request).bulk_operations.get(request.path_params["number"])
    if found is None or found.path is None or found.url is None:
        raise NotFoundError("no such bulk operation has a result")
    return FileResponse(found.path, media_type="application/jsonl")


async def confirm_charge(request: Request) -> Response:
    """GET …/charges/{id}/confirm_recurring_application_charge: the page where a merchant approves or declines."""
    found = _subscription(request)
    prices = ", ".join(_price(plan) for _, plan in found.lines)
    title = escape(f"{found.name}: {prices}")
    return HTMLResponse(
        f"<!doctype html><title>Approve subscription</title><h1>{title}</h1>"
        f'<form method="post"><button name="answer" value="approve">Approve</button> '
        f'<button name="answer" value="decline">Decline</button></form>'
    )


async def answer_charge(request: Request) -> Response:
    """POST …/charges/{id}/confirm_recurring_application_charge: the merchant's answer, and back to the app."""
    from sellflow.simulator.graphql.subscriptions import approved  # noqa: PLC0415 - it takes GraphQL with it

    found, admin = _subscription(request), _admin(request)
    if found.status == "PENDING":
        if b"decline" in await request.body():
            admin.subscriptions[found.id] = replace(found, status="DECLINED")
        else:
            now = simulator_of(request).admin.now()
            admin.subscriptions |= approved(found, admin.subscriptions, now)
    joint = "&" if "?" in found.return_url else "?"
    return RedirectResponse(f"{found.return_url}{joint}charge_id={found.id}", 302)


async def change_webhook_faults(request: Request) -> Response:
    """PUT /shops/{domain}/webhook-faults: what befalls webhooks of calls and runs that name no faults themselves."""
    domain = request.path_params["domain"]
    simulator_of(request).stand_faults(domain, await parsed(request, Faults))
    return json_answer({})


def _admin(request: Request) -> AdminShop:
    return simulator_of(request).admin.shop(request.path_params["domain"])


def _subscription(request: Request) -> Subscription:
    found = _admin(request).subscriptions.get(request.path_params["number"])
    if found is None:
        raise NotFoundError("no such charge")
    return found


def _price(plan: dict[str, object]) -> str:
    details = plan.get("appRecurringPricingDetails")
    price = details.get("price") if isinstance(details, dict) else None
    return f"{price['amount']} {price['currencyCode']}" if isinstance(price, dict) else "usage"


def _bucket(bucket: Bucket) -> BucketShown:
    return BucketShown(
        maximum=bucket.maximum,
        level=bucket.level,
        restore_rate=bucket.restore_rate,
        drains=len(bucket.drains),
        drained=sum(one.points for one in bucket.drains),
        last_drains=[DrainShown(at=one.at, points=one.points) for one in list(bucket.drains)[-100:]],
    )


_CHARGE = "/shops/{domain}/admin/charges/{number:int}/confirm_recurring_application_charge"

ROUTES = (
    Route("/shops/{domain}/admin/api/{version}/graphql.json", graphql, methods=["POST"]),
    Route("/shops/{domain}/admin-api", show, methods=["GET"]),
    Route("/shops/{domain}/admin-api/calls", list_calls, methods=["GET"]),
    Route("/shops/{domain}/admin-api/calls", clear_calls, methods=["DELETE"]),
    Route("/shops/{domain}/admin-api/bucket", change_bucket, methods=["PUT"]),
    Route("/shops/{domain}/admin-api/drain", drain, methods=["POST"]),
    Route("/shops/{domain}/admin-api/faults", add_fault, methods=["POST"]),
    Route("/shops/{domain}/admin-api/faults", clear_faults, methods=["DELETE"]),
    Route("/shops/{domain}/admin-api/idempotency-keys/age", age_keys, methods=["POST"]),
    Route("/shops/{domain}/admin-api/bulk", pace_bulk, methods=["PUT"]),
    Route("/shops/{domain}/bulk-results/{number:int}.jsonl", bulk_result, methods=["GET"]),
    Route("/shops/{domain}/webhook-faults", change_webhook_faults, methods=["PUT"]),
    Route(_CHARGE, confirm_charge, methods=["GET"]),
    Route(_CHARGE, answer_charge, methods=["POST"]),
)
