"""The delivery log of an endpoint, redelivery, and tests, for merchants and for services."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.responses import Response

from sellflow.admin.endpoints_api import EndpointId, SentAnswer
from sellflow.admin.letters_api import Id, Moment
from sellflow.edge.audiences import Audience
from sellflow.edge.callers import Caller
from sellflow.edge.idempotency import CurrentRequest
from sellflow.edge.pagination import decode_cursor, encode_cursor
from sellflow.edge.problems import Problem, problem_responses
from sellflow.postgres.database import Connection
from sellflow.postgres.transactions import admin_transaction
from sellflow.queue.outgoing import delivery_log
from sellflow.queue.outgoing import endpoints as outgoing
from sellflow.queue.outgoing.models import DeliveryState, LoggedAttempt
from sellflow.queue.registry import Registry

LARGEST_PAGE = 200
#: The shop of a test event and its key, as `send_test` returns them.
_TEST = re.compile(r"([1-9][0-9]{0,17})~(test:[0-9]+:[0-9T:.+-]{1,40})")

DeliveryId = Annotated[int, Path(ge=1, le=2**63 - 1, description="The delivery's number.")]
TestId = Annotated[str, Path(max_length=120, description="`test_id` of the answer to a test.")]


class DeliveryAnswer(BaseModel):
    """One event on its way to an endpoint."""

    id: int
    topic: str
    event_id: int
    state: DeliveryState
    attempts: int
    last_status: int | None
    last_error: str | None
    created_at: datetime
    delivered_at: datetime | None


class DeliveriesAnswer(BaseModel):
    """A page of the log, newest first."""

    items: list[DeliveryAnswer]
    next_cursor: str | None = Field(description="Pass it as `cursor` to get the next page; null on the last one.")


class DeliveryAttempt(BaseModel):
    """One attempt at a delivery, and the beginning of what the endpoint answered."""

    attempted_at: datetime
    duration_ms: int
    status: int | None
    error_code: str | None
    error_message: str | None
    excerpt: str


class AttemptsAnswer(BaseModel):
    """The attempts at one delivery, the eldest first."""

    items: list[DeliveryAttempt]


class Redelivery(BaseModel):
    """What is sent again: one delivery, or all that failed since a time."""

    model_config = ConfigDict(extra="forbid")

    delivery_id: Id | None = Field(default=None, description="A delivery, delivered or failed.")
    since: Moment | None = Field(default=None, description="Or all that failed of those made since then.")

    @model_validator(mode="after")
    def _one_way(self) -> Redelivery:
        if (self.delivery_id is None) == (self.since is None):
            raise ValueError("name delivery_id or since: one of these")
        return self


class TestStarted(BaseModel):
    """A test that is on its way."""

    test_id: str


class TestAnswer(BaseModel):
    """What became of a test: pending until a worker has made its attempt."""

    state: Literal["pending", "delivered", "failed"]
    attempt: DeliveryAttempt | None


def delivery_routes(audience: Audience) -> APIRouter:
    """Return the routes for an audience."""
    router = APIRouter(prefix=audience.prefix, tags=[audience.tag])
    _add_log(router, audience.reads)
    _add_redelivery(router, audience.writes)
    _add_tests(router, audience)
    return router


def _add_log(router: APIRouter, reads: Caller) -> None:
    @router.get(
        "/{endpoint_id}/deliveries",
        summary="The delivery log",
        responses=problem_responses(400, 401, 403, 404, 429, 503),
    )
    async def list_some(
        request: Request,
        endpoint_id: EndpointId,
        *,
        state: Annotated[DeliveryState | None, Query()] = None,
        cursor: Annotated[str | None, Query(max_length=64)] = None,
        limit: Annotated[int, Query(ge=1, le=LARGEST_PAGE)] = 50,
        caller: Caller = reads,
    ) -> DeliveriesAnswer:
        """Return the deliveries of an endpoint, newest first."""
        before = decode_cursor(cursor) if cursor else None
        async with admin_transaction(request.app.state.admin_pool, caller.shop_id) as connection:
            await outgoing.find_endpoint(connection, endpoint_id)
            found = await delivery_log.list_deliveries(
                connection, endpoint_id, state=state, before=before, limit=limit + 1
            )
        page = found[:limit]
        return DeliveriesAnswer(
            items=[
                DeliveryAnswer(
                    id=each.delivery_id,
                    **{name: getattr(each, name) for name in DeliveryAnswer.model_fields if name != "id"},
                )
                for each in page
            ],
            next_cursor=encode_cursor(page[-1].delivery_id) if len(found) > limit else None,
        )

    @router.get(
        "/{endpoint_id}/deliveries/{delivery_id}",
        summary="The attempts at one",
        responses=problem_responses(400, 401, 403, 404, 429, 503),
    )
    async def attempts(
        request: Request, endpoint_id: EndpointId, delivery_id: DeliveryId, caller: Caller = reads
    ) -> AttemptsAnswer:
        """Return what was tried, and what the endpoint answered."""
        async with admin_transaction(request.app.state.admin_pool, caller.shop_id) as connection:
            await outgoing.find_endpoint(connection, endpoint_id)
            found = await delivery_log.list_attempts(connection, endpoint_id, delivery_id)
        return AttemptsAnswer(items=[_attempt(each) for each in found])


def _add_redelivery(router: APIRouter, writes: Caller) -> None:
    @router.post(
        "/{endpoint_id}/deliveries/replay",
        summary="Send again",
        response_model=SentAnswer,
        responses=problem_responses(400, 401, 403, 404, 409, 413, 422, 429, 503),
    )
    async def replay(
        request: Request, once: CurrentRequest, endpoint_id: EndpointId, wanted: Redelivery, caller: Caller = writes
    ) -> Response:
        """Send one delivery again, or all that failed since a time. What is on its way already is left alone."""
        registry: Registry = request.app.state.registry

        async def work(connection: Connection) -> SentAnswer:
            sent = await outgoing.replay_deliveries(
                connection, registry, endpoint_id, delivery_id=wanted.delivery_id, since=wanted.since
            )
            return SentAnswer(sent=sent)

        return await once.run(caller, admin_transaction(request.app.state.admin_pool, caller.shop_id), work)


def _add_tests(router: APIRouter, audience: Audience) -> None:
    @router.post(
        "/{endpoint_id}/tests",
        status_code=202,
        summary="Send a test",
        response_model=TestStarted,
        responses=problem_responses(400, 401, 403, 404, 409, 413, 422, 429, 503),
    )
    async def start_test(
        request: Request, once: CurrentRequest, endpoint_id: EndpointId, caller: Caller = audience.writes
    ) -> Response:
        """Send a test event by the way that every event takes; the answer is found under its `test_id`."""
        registry: Registry = request.app.state.registry

        async def work(connection: Connection) -> TestStarted:
            shop_id, key = await outgoing.send_test(connection, registry, endpoint_id)
            return TestStarted(test_id=f"{shop_id}~{key}")

        transaction = admin_transaction(request.app.state.admin_pool, caller.shop_id)
        return await once.run(caller, transaction, work, status=202)

    @router.get(
        "/{endpoint_id}/tests/{test_id}",
        summary="What a test came to",
        responses=problem_responses(400, 401, 403, 404, 429, 503),
    )
    async def test_result(
        request: Request, endpoint_id: EndpointId, test_id: TestId, caller: Caller = audience.reads
    ) -> TestAnswer:
        """Return what became of a test."""
        named = _TEST.fullmatch(test_id)
        if named is None:
            raise Problem(404, "not_found", "There is no such test.")
        async with admin_transaction(request.app.state.admin_pool, caller.shop_id) as connection:
            await outgoing.find_endpoint(connection, endpoint_id)
            found = await delivery_log.test_result(connection, endpoint_id, shop_id=int(named[1]), key=named[2])
        if found is None:
            return TestAnswer(state="pending", attempt=None)
        return TestAnswer(state="failed" if found.error_code else "delivered", attempt=_attempt(found))


def _attempt(attempt: LoggedAttempt) -> DeliveryAttempt:
    return DeliveryAttempt(**{name: getattr(attempt, name) for name in DeliveryAttempt.model_fields})
