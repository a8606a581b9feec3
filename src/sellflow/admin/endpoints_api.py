"""Outgoing webhooks: who is told of events, for merchants and for services."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from starlette.responses import Response

from sellflow.edge.audiences import Audience, Text, refusals
from sellflow.edge.callers import Caller
from sellflow.edge.idempotency import CurrentRequest
from sellflow.edge.plan_limits import require_room_for_endpoint
from sellflow.edge.problems import problem_responses
from sellflow.errors import NotFoundError
from sellflow.postgres.database import Connection
from sellflow.postgres.transactions import admin_transaction
from sellflow.queue.outgoing import endpoints as outgoing
from sellflow.queue.outgoing.addresses import Allowance, parse_networks
from sellflow.queue.outgoing.delivery_log import count_by_state
from sellflow.queue.outgoing.models import Endpoint
from sellflow.queue.registry import Registry
from sellflow.secrets import Vault
from sellflow.settings import Settings

EndpointId = Annotated[int, Path(ge=1, le=2**63 - 1, description="The endpoint's number.")]
Topic = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.*#-]{1,255}$")]
#: A long list of them is no subscription but an attack.
MOST_TOPICS = 100


class NewEndpoint(BaseModel):
    """Who is to be told of what."""

    model_config = ConfigDict(extra="forbid")

    address: Annotated[str, StringConstraints(max_length=2000, pattern=r"^[!-~]+$")] = Field(
        description="https://… of a webhook; for services, an SNS topic's ARN as well."
    )
    topics: Annotated[list[Topic], Field(min_length=1, max_length=MOST_TOPICS)] = Field(
        description="Topics or patterns: * is one word, # any number."
    )
    shop: Text | None = Field(
        default=None, description="The domain of the one shop whose events it hears; for services, all shops' if null."
    )
    description: Text = ""


class PauseReason(BaseModel):
    """Why an endpoint is paused."""

    model_config = ConfigDict(extra="forbid")

    reason: Text = "paused by its owner"


class Overlap(BaseModel):
    """For how long the old secret signs besides the new one."""

    model_config = ConfigDict(extra="forbid")

    overlap_hours: Annotated[float, Field(ge=0, le=720)] = 24


class EndpointAnswer(BaseModel):
    """Somebody who is told of events."""

    id: int
    kind: Literal["webhook", "sns"]
    address: str
    topics: list[str]
    description: str
    of_shop: bool = Field(description="Whether it hears one shop's events, not every shop's.")
    state: Literal["active", "paused", "removed"]
    paused_at: datetime | None
    pause_reason: str | None
    failures: int = Field(description="Failures in a row.")
    failing_since: datetime | None
    created_at: datetime


class EndpointsAnswer(BaseModel):
    """All endpoints."""

    items: list[EndpointAnswer]


class EndpointStory(EndpointAnswer):
    """An endpoint, and how many deliveries stand where."""

    deliveries: dict[str, int]


class SecretAnswer(BaseModel):
    """A secret, shown this once."""

    secret: str


class AddedAnswer(EndpointAnswer):
    """An endpoint that was added."""

    secret: str | None = Field(description="What signs its deliveries, shown this once; an SNS topic has none.")


class SentAnswer(BaseModel):
    """How many deliveries are on their way."""

    sent: int


def endpoint_routes(audience: Audience) -> APIRouter:
    """Return the routes for an audience."""
    router = APIRouter(prefix=audience.prefix, tags=[audience.tag])
    _add_reading(router, audience.reads)
    _add_adding(router, audience)
    _add_changing(router, audience.writes)
    return router


def _add_reading(router: APIRouter, reads: Caller) -> None:
    @router.get("", summary="Endpoints", responses=problem_responses(401, 403, 429, 503))
    async def list_all(request: Request, caller: Caller = reads) -> EndpointsAnswer:
        """Return the endpoints; secrets are never shown."""
        async with admin_transaction(request.app.state.admin_pool, caller.shop_id) as connection:
            found = await outgoing.list_endpoints(connection, shop_id=caller.shop_id)
        return EndpointsAnswer(items=[EndpointAnswer(**_facts(each)) for each in found])

    @router.get(
        "/{endpoint_id}", summary="One and how it fares", responses=problem_responses(400, 401, 403, 404, 429, 503)
    )
    async def show(request: Request, endpoint_id: EndpointId, caller: Caller = reads) -> EndpointStory:
        """Return an endpoint, and how many deliveries stand where."""
        async with admin_transaction(request.app.state.admin_pool, caller.shop_id) as connection:
            endpoint = await outgoing.find_endpoint(connection, endpoint_id)
            return EndpointStory(**_facts(endpoint), deliveries=await count_by_state(connection, endpoint_id))


def _add_adding(router: APIRouter, audience: Audience) -> None:
    @router.post(
        "",
        status_code=201,
        summary="Add one",
        response_model=AddedAnswer,
        responses=problem_responses(400, 401, 403, 404, 409, 413, 422, 429, 503),
    )
    async def add(
        request: Request, once: CurrentRequest, wanted: NewEndpoint, caller: Caller = audience.writes
    ) -> Response:
        """Add an endpoint. Its secret is in this answer and in no other."""
        registry: Registry = request.app.state.registry

        async def work(connection: Connection) -> AddedAnswer:
            shop_id = await _shop(connection, caller, wanted.shop)
            if shop_id is not None:
                await require_room_for_endpoint(connection, shop_id)
            with refusals():
                endpoint, secret = await outgoing.add_endpoint(
                    connection,
                    registry,
                    request.app.state.vault,
                    address=wanted.address,
                    topics=wanted.topics,
                    shop_id=shop_id,
                    allowance=_allowance(request.app.state.settings, audience, shop_id),
                    description=wanted.description,
                )
            return AddedAnswer(**_facts(endpoint), secret=secret)

        transaction = admin_transaction(request.app.state.admin_pool, caller.shop_id)
        return await once.run(caller, transaction, work, status=201)


async def _shop(connection: Connection, caller: Caller, domain: str | None) -> int | None:
    """Return the shop whose events are meant: the caller's own, or for the installation's services the one named."""
    if domain is None:
        return caller.shop_id
    found = await connection.fetch("SELECT shop_id FROM shops WHERE domain = lower($1)", domain)
    if len(found) != 1:
        raise NotFoundError(f"there is no one shop {domain!r}")
    return int(found[0]["shop_id"])


def _allowance(settings: Settings, audience: Audience, shop_id: int | None) -> Allowance:
    """Return the networks that an address may lie in: for merchants public ones alone, whatever is set."""
    if audience.is_merchants or (shop_id is not None and settings.environment == "production"):
        return Allowance()
    return Allowance(parse_networks(settings.outgoing_private_networks))


def _add_changing(router: APIRouter, writes: Caller) -> None:
    answers = problem_responses(400, 401, 403, 404, 409, 413, 422, 429, 503)

    @router.post("/{endpoint_id}/pause", summary="Pause one", response_model=EndpointAnswer, responses=answers)
    async def pause(
        request: Request, once: CurrentRequest, endpoint_id: EndpointId, why: PauseReason, caller: Caller = writes
    ) -> Response:
        """Tell an endpoint nothing for a while; what it misses is kept."""

        async def work(connection: Connection) -> EndpointAnswer:
            await outgoing.pause_endpoint(connection, endpoint_id, reason=why.reason)
            return EndpointAnswer(**_facts(await outgoing.find_endpoint(connection, endpoint_id)))

        return await once.run(caller, admin_transaction(request.app.state.admin_pool, caller.shop_id), work)

    @router.post("/{endpoint_id}/resume", summary="Resume one", response_model=SentAnswer, responses=answers)
    async def resume(
        request: Request, once: CurrentRequest, endpoint_id: EndpointId, caller: Caller = writes
    ) -> Response:
        """Tell an endpoint of events again, first of those it missed."""
        registry: Registry = request.app.state.registry

        async def work(connection: Connection) -> SentAnswer:
            return SentAnswer(sent=await outgoing.resume_endpoint(connection, registry, endpoint_id))

        return await once.run(caller, admin_transaction(request.app.state.admin_pool, caller.shop_id), work)

    @router.post("/{endpoint_id}/rotate", summary="Rotate its secret", response_model=SecretAnswer, responses=answers)
    async def rotate(
        request: Request, once: CurrentRequest, endpoint_id: EndpointId, wanted: Overlap, caller: Caller = writes
    ) -> Response:
        """Give an endpoint a new secret; the one before it signs besides for a while."""

        async def work(connection: Connection) -> SecretAnswer:
            overlap = timedelta(hours=wanted.overlap_hours)
            vault: Vault = request.app.state.vault
            with refusals():
                secret = await outgoing.rotate_secret(connection, vault, endpoint_id, overlap=overlap)
            return SecretAnswer(secret=secret)

        return await once.run(caller, admin_transaction(request.app.state.admin_pool, caller.shop_id), work)

    @router.delete(
        "/{endpoint_id}",
        status_code=204,
        summary="Remove one",
        response_class=Response,
        responses=problem_responses(400, 401, 403, 404, 429, 503),
    )
    async def remove(request: Request, endpoint_id: EndpointId, caller: Caller = writes) -> None:
        """Tell an endpoint nothing any more and forget its secrets; its delivery log stays for a while."""
        async with admin_transaction(request.app.state.admin_pool, caller.shop_id) as connection:
            await outgoing.remove_endpoint(connection, endpoint_id)


def _facts(endpoint: Endpoint) -> dict[str, object]:
    facts = asdict(endpoint)
    return facts | {"id": facts.pop("endpoint_id"), "of_shop": facts.pop("shop_id") is not None}
