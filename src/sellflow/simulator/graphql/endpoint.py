"""POST …/admin/api/{version}/graphql.json: one call, from its arrival to its entry in the journal."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from sellflow.errors import NotFoundError
from sellflow.simulator.graphql.calls import ApiCall, Outcome
from sellflow.simulator.graphql.faults import ApiFault
from sellflow.simulator.graphql.idempotency import Attempt, Conflict
from sellflow.simulator.graphql.shops import AdminShop, Lane
from sellflow.simulator.ids import gid
from sellflow.simulator.oauth.access import AccessDeniedError, check_access
from sellflow.simulator.oauth.models import AccessToken
from sellflow.simulator.oauth.trouble import DroppedAnswer
from sellflow.simulator.routing import json_answer, simulator_of

if TYPE_CHECKING:
    from graphql import ExecutionResult

    from sellflow.simulator.graphql.execution import Engine, Plan
    from sellflow.simulator.graphql.fields import Window, World
    from sellflow.simulator.service import Simulator

# The most that one query may cost, on any plan.
SINGLE_QUERY_LIMIT = 1000
DOCUMENTATION = "https://shopify.dev/api/usage/rate-limits"


@dataclass(slots=True)
class _Exchange:
    """A call under way."""

    simulator: Simulator
    domain: str
    base_url: str
    admin: AdminShop
    lane: Lane
    access: AccessToken
    entry: ApiCall
    attempts: dict[str, Attempt | Conflict] = field(default_factory=dict)

    def world(self, engine: Engine, window: Window | None = None) -> World:
        from sellflow.simulator.graphql.fields import World  # noqa: PLC0415 - it takes GraphQL with it

        return World(
            types=engine.types,
            shopify=self.simulator.shopify,
            domain=self.domain,
            admin=self.admin,
            lane=self.lane,
            client_id=self.access.client_id,
            scopes=self.access.scopes,
            base_url=self.base_url,
            now=self.simulator.admin.now(),
            check=lambda text: _bulk_complaints(engine, text),
            is_bulk=window is not None,
            window=window,
        )


async def graphql(request: Request) -> Response:
    """POST /shops/{domain}/admin/api/{version}/graphql.json: answer a query or a mutation."""
    from sellflow.simulator.graphql.schema import SchemaMissingError  # noqa: PLC0415 - it takes GraphQL with it

    simulator, domain = simulator_of(request), request.path_params["domain"]
    try:
        admin = simulator.admin.shop(domain)
        access = check_access(simulator.oauth, domain, request.headers.get("X-Shopify-Access-Token"))
    except NotFoundError:
        return json_answer({"errors": "Not Found"}, 404)
    except AccessDeniedError as error:
        return json_answer({"errors": f"{error}"}, 401)
    if request.path_params["version"] != simulator.admin.version:
        asked = request.path_params["version"]
        message = f"Not Found: the simulator answers version {simulator.admin.version} of the Admin API, not {asked}"
        return json_answer({"errors": message}, 404)
    try:
        engine = await simulator.admin.engine()
    except SchemaMissingError as error:
        return json_answer({"errors": [{"message": f"{error}", "extensions": {"code": error.code}}]}, 501)
    exchange = _Exchange(
        simulator=simulator,
        domain=domain,
        base_url=f"{request.base_url}".rstrip("/"),
        admin=admin,
        lane=admin.lane(access.client_id),
        access=access,
        entry=ApiCall(at=admin.clock(), operation="", client_id=access.client_id),
    )
    began = time.perf_counter()
    try:
        return await _answer(exchange, engine, await request.body())
    finally:
        exchange.entry.available = exchange.lane.bucket.level
        exchange.entry.seconds = time.perf_counter() - began
        admin.calls.note(exchange.entry)


async def _answer(exchange: _Exchange, engine: Engine, body: bytes) -> Response:
    from sellflow.simulator.graphql.execution import RefusedDocumentError  # noqa: PLC0415 - it takes GraphQL with it

    try:
        text, operation_name, variables = _message(body)
    except ValueError as error:
        return _refused(exchange, {"errors": {"query": f"{error}"}}, 400)
    try:
        plan = engine.plan(engine.prepare(text), operation_name, variables)
    except RefusedDocumentError as error:
        return _refused(exchange, {"errors": [one.formatted for one in error.errors]}, 200)
    exchange.entry.operation, exchange.entry.requested = plan.name, plan.requested
    if plan.requested > SINGLE_QUERY_LIMIT:
        return _refused(exchange, {"errors": [_too_expensive(plan.requested)]}, 200)
    faults = exchange.admin.faults.draw({plan.name, *plan.roots})
    latency = sum(fault.seconds for fault in faults if fault.kind == "latency")
    trouble = next((fault for fault in faults if fault.kind != "latency"), None)
    exchange.entry.fault = trouble.kind if trouble else "latency" if latency else None
    return await _through(exchange, engine, plan, latency, trouble)


async def _through(
    exchange: _Exchange, engine: Engine, plan: Plan, latency: float, trouble: ApiFault | None
) -> Response:
    """Let a call pass the bucket, its keys and its faults."""
    if trouble is not None and trouble.kind in ("too_many_requests", "error_before", "drop_before"):
        await asyncio.sleep(latency)
        return _broken(exchange, trouble)
    if (trouble is not None and trouble.kind == "throttled") or not exchange.lane.bucket.take(plan.requested):
        return _throttled(exchange, plan)
    claimed = _claim(exchange, plan)
    try:
        await asyncio.sleep(latency)
        if trouble is not None and trouble.kind == "error_during":
            return _broken(exchange, trouble)
        answer = _executed(exchange, engine, plan)
        for attempt in claimed:
            if not attempt.is_done:
                exchange.lane.keys.forget(attempt)
    finally:
        for attempt in claimed:
            if not attempt.is_done:
                attempt.fail()
        exchange.lane.bucket.give_back(plan.requested - exchange.entry.actual)
    if trouble is not None:
        return _broken(exchange, trouble)
    answer["extensions"] = {"cost": _cost(exchange, plan.requested, exchange.entry.actual)}
    return json_answer(answer)


def _executed(exchange: _Exchange, engine: Engine, plan: Plan) -> dict[str, object]:
    world = exchange.world(engine)
    result: ExecutionResult = engine.execute(plan, world, exchange.attempts)
    exchange.entry.actual = engine.actual_cost(plan, result.data)
    exchange.entry.errors = len(result.errors or ())
    exchange.simulator.admin.tell(exchange.domain, world.notices)
    _begin_bulk(exchange, engine, world)
    answer: dict[str, object] = {"data": result.data}
    if result.errors:
        answer["errors"] = [error.formatted for error in result.errors]
    return answer


def _begin_bulk(exchange: _Exchange, engine: Engine, world: World) -> None:
    from sellflow.simulator.graphql import bulk_runner  # noqa: PLC0415 - it takes GraphQL with it

    api = exchange.simulator.admin
    for operation in world.begun:
        api.start(bulk_runner.run(api, engine, operation, lambda window: exchange.world(engine, window)))


def _claim(exchange: _Exchange, plan: Plan) -> list[Attempt]:
    """Claim the keys of a call's mutations, and return the attempts that are its own to carry out."""
    own = []
    for keyed in plan.keyed:
        found = exchange.lane.keys.claim(keyed.key, keyed.fingerprint)
        exchange.attempts[keyed.response_name] = found
        if isinstance(found, Attempt) and not found.is_done:
            own.append(found)
    return own


def _message(body: bytes) -> tuple[str, str | None, Mapping[str, Any]]:
    """Return a request's document, operation name and variables.

    Raises
    ------
    ValueError
        If it has none.
    """
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("query"), str):
        raise ValueError("Required parameter missing or invalid")  # noqa: TRY004 - it becomes a 400
    variables = found.get("variables") or {}
    if not isinstance(variables, dict):
        raise ValueError("Variables are invalid")  # noqa: TRY004 - it becomes a 400
    return found["query"], found.get("operationName"), variables


def _refused(exchange: _Exchange, content: Mapping[str, object], status: int) -> Response:
    exchange.entry.outcome, exchange.entry.status = "refused", status
    exchange.entry.errors = 1
    return json_answer(content, status)


def _too_expensive(requested: int) -> dict[str, object]:
    return {
        "message": (
            f"Query cost is {requested}, which exceeds the single query max cost limit ({SINGLE_QUERY_LIMIT}).\n\n"
            "See https://shopify.dev/concepts/about-apis/rate-limits for more information on how the\n"
            "cost of a query is calculated.\n\n"
            "To query larger amounts of data with fewer limits, bulk operations should be used instead.\n"
            "See https://shopify.dev/api/usage/bulk-operations/queries for usage details.\n"
        ),
        "extensions": {
            "code": "MAX_COST_EXCEEDED",
            "cost": requested,
            "maxCost": SINGLE_QUERY_LIMIT,
            "documentation": DOCUMENTATION,
        },
    }


def _throttled(exchange: _Exchange, plan: Plan) -> Response:
    exchange.entry.outcome = "throttled"
    extensions = {"code": "THROTTLED", "documentation": DOCUMENTATION}
    return json_answer(
        {
            "errors": [{"message": "Throttled", "extensions": extensions}],
            "extensions": {"cost": _cost(exchange, plan.requested, None)},
        }
    )


def _broken(exchange: _Exchange, fault: ApiFault) -> Response:
    if fault.kind in ("drop_before", "drop_after"):
        exchange.entry.outcome = "dropped"
        return DroppedAnswer()
    outcome: Outcome = "failed"
    exchange.entry.outcome = outcome
    if fault.kind == "too_many_requests":
        exchange.entry.status = 429
        headers = {"Retry-After": f"{fault.retry_after:.1f}"}
        return Response(b'{"errors":"Too Many Requests"}', 429, headers, media_type="application/json")
    exchange.entry.status = fault.status
    request_id = gid("Request", exchange.simulator.shopify.ids())
    return json_answer({"errors": f"Internal Server Error: {request_id}"}, fault.status)


def _cost(exchange: _Exchange, requested: int, actual: int | None) -> dict[str, object]:
    bucket = exchange.lane.bucket
    return {
        "requestedQueryCost": requested,
        "actualQueryCost": actual,
        "throttleStatus": {
            "maximumAvailable": bucket.maximum,
            "currentlyAvailable": int(bucket.level),
            "restoreRate": bucket.restore_rate,
        },
    }


def _bulk_complaints(engine: Engine, text: str) -> list[str]:
    from sellflow.simulator.graphql.bulk import within_lists  # noqa: PLC0415 - it takes GraphQL with it
    from sellflow.simulator.graphql.execution import RefusedDocumentError  # noqa: PLC0415 - it takes GraphQL with it

    try:
        engine.plan(engine.prepare(text), None, {})
    except RefusedDocumentError as error:
        return [f"Invalid bulk query: {one.message}" for one in error.errors]
    if within_lists(engine.schema, text):
        return ["Queries that contain a connection field within a list field are not currently supported."]
    return []
