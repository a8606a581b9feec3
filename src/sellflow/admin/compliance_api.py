"""GET /admin/api/compliance: what Shopify asked for on behalf of a shop's customers, and the files of data requests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated

import structlog
from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from sellflow.edge.merchant_sessions import CurrentMerchant
from sellflow.edge.pagination import decode_cursor, encode_cursor
from sellflow.edge.problems import problem_responses
from sellflow.postgres.database import Pool
from sellflow.postgres.transactions import admin_transaction
from sellflow.secrets import Vault
from sellflow.shops.compliance import models
from sellflow.shops.compliance.exports import Export, find_export, read_part
from sellflow.shops.compliance.models import Kind, State
from sellflow.shops.compliance.store import find_request, list_requests

log = structlog.get_logger(__name__)

router = APIRouter(prefix="/admin/api/compliance", tags=["admin"])

LARGEST_PAGE = 200

RequestId = Annotated[int, Path(ge=1, le=2**63 - 1, description="The request's number.")]


class RequestListQuery(BaseModel):
    """Which page of which requests."""

    model_config = ConfigDict(extra="forbid")

    unfinished: bool = Field(default=False, description="Only those that are not done yet.")
    cursor: Annotated[str, StringConstraints(max_length=64)] | None = Field(
        default=None, description="Where to go on; `next_cursor` of a page."
    )
    limit: Annotated[int, Field(ge=1, le=LARGEST_PAGE)] = 50


class CustomerAnswer(BaseModel):
    """Whom a request is about, as Shopify named them."""

    id: int | None
    email: str | None
    phone: str | None
    order_ids: list[int]


class RequestAnswer(BaseModel):
    """A request to export or erase what is stored of a customer, or of the whole shop."""

    id: int
    kind: Kind
    data_request_id: int | None = Field(description="Shopify's number of a data request.")
    customer: CustomerAnswer | None = Field(description="Null where it is about the shop, and once they are erased.")
    received_at: datetime
    due_at: datetime
    overdue: bool
    state: State
    reason: str
    finished_at: datetime | None
    erased: dict[str, int] = Field(description="Rows erased, by table.")
    export_expires_at: datetime | None = Field(description="Until when its file can be fetched; null without one.")


class RequestsAnswer(BaseModel):
    """A page of requests, newest first."""

    items: list[RequestAnswer]
    next_cursor: str | None = Field(description="Pass it as `cursor` to get the next page; null on the last one.")


@router.get("", summary="Compliance requests", responses=problem_responses(400, 401, 403, 429, 503))
async def list_some(
    request: Request, merchant: CurrentMerchant, wanted: Annotated[RequestListQuery, Query()]
) -> RequestsAnswer:
    """Return what was asked for, newest first."""
    before = decode_cursor(wanted.cursor) if wanted.cursor else None
    async with admin_transaction(request.app.state.admin_pool, merchant.shop_id) as connection:
        found = await list_requests(
            connection,
            shop_id=merchant.shop_id,
            unfinished=wanted.unfinished,
            before=before,
            limit=wanted.limit + 1,
        )
    page = found[: wanted.limit]
    return RequestsAnswer(
        items=[_answer(each) for each in page],
        next_cursor=encode_cursor(page[-1].request_id) if len(found) > wanted.limit else None,
    )


@router.get("/{request_id}", summary="One of them", responses=problem_responses(400, 401, 403, 404, 429, 503))
async def show(request: Request, merchant: CurrentMerchant, request_id: RequestId) -> RequestAnswer:
    """Return a request, and what was erased for it."""
    async with admin_transaction(request.app.state.admin_pool, merchant.shop_id) as connection:
        return _answer(await find_request(connection, request_id))


@router.get(
    "/{request_id}/export",
    summary="The file of a data request",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Everything that is stored of the customer, to be handed to them.",
            "content": {"application/json": {"schema": {"type": "object"}}},
        },
        **problem_responses(400, 401, 403, 404, 429, 503),
    },
)
async def download(request: Request, merchant: CurrentMerchant, request_id: RequestId) -> StreamingResponse:
    """Send the file as it is read, part by part, each in a transaction of its own: the browser may be slow."""
    pool, vault = request.app.state.admin_pool, request.app.state.vault
    async with admin_transaction(pool, merchant.shop_id) as connection:
        export = await find_export(connection, request_id)
        first = await read_part(connection, vault, export, 0)
    log.info("compliance.export_fetched", request_id=request_id, shop_id=merchant.shop_id, by=merchant.caller.name)
    headers = {
        "content-disposition": f'attachment; filename="customer-data-{request_id}.json"',
        "cache-control": "no-store",
    }
    return StreamingResponse(
        _parts(pool, vault, merchant.shop_id, export, first), media_type="application/json", headers=headers
    )


async def _parts(pool: Pool, vault: Vault, shop_id: int, export: Export, first: str) -> AsyncIterator[str]:
    """Yield the parts. A file that is deleted meanwhile breaks the answer off: half of one must not look whole."""
    yield first
    for part in range(1, export.parts):
        async with admin_transaction(pool, shop_id) as connection:
            text = await read_part(connection, vault, export, part)
        yield text


def _answer(found: models.Request) -> RequestAnswer:
    person = found.person
    return RequestAnswer(
        id=found.request_id,
        kind=found.kind,
        data_request_id=found.external_id,
        customer=None
        if person is None
        else CustomerAnswer(
            id=person.customer_id, email=person.email, phone=person.phone, order_ids=sorted(person.order_ids)
        ),
        received_at=found.received_at,
        due_at=found.due_at,
        overdue=found.is_overdue(datetime.now(UTC)),
        state=found.state,
        reason=found.reason,
        finished_at=found.finished_at,
        erased=found.record,
        export_expires_at=found.expires_at,
    )
