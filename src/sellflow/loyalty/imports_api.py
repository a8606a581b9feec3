"""GET, POST and DELETE /admin/api/imports: a shop's customers and orders from before it installed the app."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from sellflow.edge.audiences import refusals
from sellflow.edge.idempotency import CurrentRequest
from sellflow.edge.merchant_sessions import CurrentMerchant
from sellflow.edge.problems import problem_responses
from sellflow.errors import NotFoundError
from sellflow.loyalty.history import begin_import
from sellflow.postgres.database import Connection
from sellflow.postgres.transactions import admin_transaction
from sellflow.shops.imports.store import Import, Kind, State, end, list_imports

router = APIRouter(prefix="/admin/api/imports", tags=["admin"])

ImportId = Annotated[int, Path(ge=1, le=2**63 - 1, description="The import's number.")]


class WantedImport(BaseModel):
    """What to import."""

    model_config = ConfigDict(extra="forbid")

    kind: Kind
    since: AwareDatetime | None = Field(default=None, description="Leave out what was made before; null: nothing.")
    earn_from: AwareDatetime | None = Field(
        default=None, description="Orders placed from then on bring points; null: none of those from before now."
    )


class ImportAnswer(BaseModel):
    """An import and how far it has come."""

    id: int
    kind: Kind
    state: State
    since: datetime | None
    stored: int = Field(description="Customers or orders that are stored already.")
    expected: int | None = Field(description="How many Shopify counted; null while it has not.")
    share: float | None = Field(description="How much of it is done, from 0 to 1; null while nobody knows.")
    error: str = Field(description="Why the last step failed; it is tried again until the state says failed.")
    asked_at: datetime
    finished_at: datetime | None


class ImportsAnswer(BaseModel):
    """A shop's imports."""

    items: list[ImportAnswer]


@router.get("", summary="Imports", responses=problem_responses(401, 403, 429, 503))
async def list_some(request: Request, merchant: CurrentMerchant) -> ImportsAnswer:
    """Return the last twenty imports, newest first."""
    async with admin_transaction(request.app.state.admin_pool, merchant.shop_id) as connection:
        found = await list_imports(connection, merchant.shop_id)
    return ImportsAnswer(items=[_answer(each) for each in found])


@router.post(
    "",
    summary="Begin one",
    status_code=202,
    response_model=ImportAnswer,
    responses=problem_responses(400, 401, 403, 409, 413, 422, 429, 503),
)
async def begin(request: Request, merchant: CurrentMerchant, once: CurrentRequest, wanted: WantedImport) -> Response:
    """Begin an import, or return the one of that kind that goes on already. Workers do it; look how far they are."""

    async def work(connection: Connection) -> ImportAnswer:
        with refusals():
            await begin_import(
                connection, merchant.shop_id, wanted.kind, since=wanted.since, earn_from=wanted.earn_from
            )
        found = await list_imports(connection, merchant.shop_id)
        return _answer(next(each for each in found if each.kind == wanted.kind))

    transaction = admin_transaction(request.app.state.admin_pool, merchant.shop_id)
    return await once.run(merchant.caller, transaction, work, status=202)


@router.delete("/{import_id}", summary="Stop one", responses=problem_responses(400, 401, 403, 404, 429, 503))
async def stop(request: Request, merchant: CurrentMerchant, import_id: ImportId) -> ImportAnswer:
    """Stop an import; what is stored stays. One that has ended is left as it ended."""
    async with admin_transaction(request.app.state.admin_pool, merchant.shop_id) as connection:
        await end(connection, merchant.shop_id, import_id, state="cancelled")
        found = await list_imports(connection, merchant.shop_id)
    for each in found:
        if each.import_id == import_id:
            return _answer(each)
    raise NotFoundError(f"there is no import {import_id}")


def _answer(of: Import) -> ImportAnswer:
    return ImportAnswer(
        id=of.import_id,
        kind=of.kind,
        state=of.state,
        since=of.since,
        stored=of.stored,
        expected=of.expected,
        share=of.share,
        error=of.error,
        asked_at=of.asked_at,
        finished_at=of.finished_at,
    )
