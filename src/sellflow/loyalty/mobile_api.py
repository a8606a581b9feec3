"""GET /v1/loyalty and /v1/loyalty/history: what a customer's app shows."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from sellflow.edge.customer_tokens import CurrentCustomer
from sellflow.edge.pagination import decode_cursor, encode_cursor
from sellflow.edge.problems import problem_responses
from sellflow.loyalty.models import MovementKind
from sellflow.loyalty.statements import HistoryEntry, read_balance, read_history
from sellflow.postgres.transactions import shop_transaction

LARGEST_PAGE = 100

router = APIRouter(prefix="/v1/loyalty", tags=["mobile"])


class LoyaltyAnswer(BaseModel):
    """A customer's standing."""

    balance: int = Field(description="Points that can be spent now; below zero when more was taken back than was left.")
    pending: int = Field(description="Points that are earned but cannot be spent yet.")
    tier: str | None = Field(description="The customer's tier; null while the shop has none.")


class HistorySource(BaseModel):
    """What points were moved for."""

    type: Literal["order"] = "order"
    id: int = Field(description="Shopify's id of the order.")
    name: str | None = Field(description="The order's name as the customer knows it, such as #1001.")


class HistoryItem(BaseModel):
    """One movement of points."""

    id: int
    kind: MovementKind
    points: int = Field(description="Gained (positive) or taken (negative).")
    balance_after: int
    source: HistorySource
    created_at: datetime


class HistoryAnswer(BaseModel):
    """A page of movements, newest first."""

    items: list[HistoryItem]
    next_cursor: str | None = Field(description="Pass it as `cursor` to get the next page; null on the last one.")


@router.get("", summary="A customer's balance", responses=problem_responses(401, 503))
async def get_loyalty(request: Request, customer: CurrentCustomer) -> LoyaltyAnswer:
    """Return what the customer has."""
    async with shop_transaction(request.app.state.web_pool, customer.shop_id) as connection:
        balance = await read_balance(connection, customer.shop_id, customer.customer_id)
    return LoyaltyAnswer(balance=balance.available, pending=balance.pending, tier=None)


@router.get("/history", summary="How it came about", responses=problem_responses(400, 401, 503))
async def get_history(
    request: Request,
    customer: CurrentCustomer,
    cursor: Annotated[str | None, Query(max_length=64, description="Where to go on; `next_cursor` of a page.")] = None,
    limit: Annotated[int, Query(ge=1, le=LARGEST_PAGE, description="Most items on the page.")] = 20,
) -> HistoryAnswer:
    """Return the customer's movements, newest first. A page stays the same while new movements arrive."""
    before = decode_cursor(cursor) if cursor else None
    async with shop_transaction(request.app.state.web_pool, customer.shop_id) as connection:
        entries = await read_history(connection, customer.shop_id, customer.customer_id, before=before, limit=limit + 1)
    page = entries[:limit]
    return HistoryAnswer(
        items=[_item(entry) for entry in page],
        next_cursor=encode_cursor(page[-1].transfer_id) if len(entries) > limit else None,
    )


def _item(entry: HistoryEntry) -> HistoryItem:
    return HistoryItem(
        id=entry.transfer_id,
        kind=entry.kind,
        points=entry.points,
        balance_after=entry.balance_after,
        source=HistorySource(id=entry.order_id, name=entry.order_name),
        created_at=entry.created_at,
    )
