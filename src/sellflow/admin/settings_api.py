"""GET and PATCH /admin/api/settings: what a shop set, with ETags; and who is looking."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Header, Request, Response
from pydantic import BaseModel

from sellflow.edge.audiences import refusals
from sellflow.edge.merchant_sessions import CurrentMerchant
from sellflow.edge.problems import Problem, problem_responses
from sellflow.postgres.transactions import admin_transaction
from sellflow.shops.settings import (
    SettingsChangedError,
    ShopSettings,
    VersionedSettings,
    change_settings,
    read_settings,
)

router = APIRouter(prefix="/admin/api", tags=["admin"])

_ETAG = {"ETag": {"description": "The version of the settings.", "schema": {"type": "string"}}}
IfMatch = Annotated[
    str | None,
    Header(max_length=100, description="The ETag that the change was made from, or * for whichever there is."),
]


class SessionAnswer(BaseModel):
    """Who is calling."""

    shop: str
    app: str
    user_id: int


@router.get("/session", summary="Who is calling", responses=problem_responses(401, 403, 429, 503))
async def get_session(merchant: CurrentMerchant) -> SessionAnswer:
    """Return the shop, app and user of the session token."""
    return SessionAnswer(shop=merchant.domain, app=merchant.app_handle, user_id=merchant.user_id)


@router.get(
    "/settings",
    summary="The shop's settings",
    responses={200: {"headers": _ETAG}, **problem_responses(401, 403, 429, 503)},
)
async def get_settings(request: Request, merchant: CurrentMerchant, response: Response) -> ShopSettings:
    """Return the shop's settings."""
    async with admin_transaction(request.app.state.admin_pool, merchant.shop_id) as connection:
        return _tagged(await read_settings(connection, merchant.shop_id), response)


@router.patch(
    "/settings",
    summary="Change some",
    responses={200: {"headers": _ETAG}, **problem_responses(400, 401, 403, 412, 413, 428, 429, 503)},
)
async def patch_settings(
    request: Request, merchant: CurrentMerchant, response: Response, changes: ShopSettings, if_match: IfMatch = None
) -> ShopSettings:
    """Change the settings that are sent; null puts one back to its default. `If-Match` guards against lost changes."""
    sent = changes.model_dump(exclude_unset=True)
    version = _version(if_match)
    try:
        with refusals():
            async with admin_transaction(request.app.state.admin_pool, merchant.shop_id) as connection:
                changed = await change_settings(
                    connection, merchant.shop_id, sent, by=merchant.caller.name, version=version
                )
    except SettingsChangedError as error:
        raise Problem(412, error.code, f"{error}.".capitalize()) from error
    return _tagged(changed, response)


def _version(if_match: str | None) -> int | None:
    """Return the version that a change was made from; None for whichever there is."""
    if if_match is None:
        detail = "Send the ETag of the settings that you changed as If-Match, so that nobody's change is lost."
        raise Problem(428, "request.precondition_required", detail)
    if if_match.strip() == "*":
        return None
    found = re.fullmatch(r'"v([0-9]{1,9})"', if_match.strip())
    # Another's ETag matches nothing of ours: RFC 9110 has 412 for that, not 400.
    return int(found[1]) if found else -1


def _tagged(found: VersionedSettings, response: Response) -> ShopSettings:
    response.headers["etag"] = f'"v{found.version}"'
    return found.settings
