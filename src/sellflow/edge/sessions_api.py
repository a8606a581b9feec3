"""POST /mobile/sessions …: a customer whom Shopify knows gets a session here, renews it, and ends it."""

from __future__ import annotations

from typing import Annotated, Literal

import asyncpg
from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from starlette.responses import Response

from sellflow.edge import refresh_tokens
from sellflow.edge.callers import Caller
from sellflow.edge.customer_accounts import (
    AccountsPlace,
    AccountsUnavailableError,
    CustomerAccounts,
    CustomerRefusedError,
)
from sellflow.edge.customer_tokens import CustomerSession, issue_token, unauthorized
from sellflow.edge.idempotency import AboutCustomer, CurrentRequest
from sellflow.edge.limits import Kind, Limits
from sellflow.edge.problems import Problem, problem_responses
from sellflow.edge.refresh_tokens import RefusedTokenError, Renewal, ReusedTokenError
from sellflow.postgres.database import Connection
from sellflow.postgres.transactions import shop_transaction
from sellflow.settings import Settings
from sellflow.shops.settings import read_settings

router = APIRouter(prefix="/mobile/sessions", tags=["mobile"])

#: Visible ASCII: tokens, nonces and domains hold nothing else.
Token = Annotated[str, StringConstraints(min_length=1, max_length=8192, pattern=r"^[!-~]+$")]
ANONYMOUS = "customer:anonymous"


class NewSession(BaseModel):
    """Which shop, and what Shopify's Customer Account API gave the app: one of the two tokens."""

    model_config = ConfigDict(extra="forbid")

    shop: Annotated[str, StringConstraints(to_lower=True, max_length=255, pattern=r"^[!-~]+$")] = Field(
        description="The shop's domain, such as name.myshopify.com."
    )
    app: Annotated[str, StringConstraints(max_length=63, pattern=r"^[!-~]+$")] | None = Field(
        default=None, description="The handle of the Shopify app; needed where the shop installed several."
    )
    id_token: Token | None = Field(default=None, description="The id_token, an OpenID Connect one.")
    nonce: Token | None = Field(default=None, description="The nonce that the id_token was asked for with.")
    access_token: Token | None = Field(default=None, description="Or the access token.")

    @model_validator(mode="after")
    def _one_token(self) -> NewSession:
        if (self.id_token is None) == (self.access_token is None):
            raise ValueError("send either id_token or access_token")
        if self.id_token is not None and self.nonce is None:
            raise ValueError("an id_token needs the nonce that it was asked for with")
        return self


class ShownRefreshToken(BaseModel):
    """A refresh token."""

    model_config = ConfigDict(extra="forbid")

    refresh_token: Token


class SessionAnswer(BaseModel):
    """A customer's session."""

    token: str = Field(description="Send it as `Authorization: Bearer …`.")
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - its kind
    expires_in: int = Field(description="Seconds for which the token is valid.")
    refresh_token: str = Field(description="Exchange it, once, for the next token and refresh token.")
    refresh_expires_in: int


@router.post(
    "",
    status_code=201,
    summary="Begin a session",
    response_model=SessionAnswer,
    responses=problem_responses(400, 401, 403, 409, 413, 422, 429, 503),
)
async def begin(request: Request, once: CurrentRequest, wanted: NewSession) -> Response:
    """Exchange what Shopify gave the customer's app for a session here."""
    shop_id, app_id = await _find_shop(request, wanted)
    customer_id = await _identify(request, await _place(request, wanted, shop_id, app_id), wanted)
    settings: Settings = request.app.state.settings

    async def work(connection: Connection) -> AboutCustomer:
        renewal = await refresh_tokens.begin_session(connection, shop_id, customer_id, ttl=settings.refresh_token_ttl)
        return await _answer(connection, shop_id, renewal, request)

    return await once.run(
        Caller(shop_id, ANONYMOUS), shop_transaction(request.app.state.web_pool, shop_id), work, status=201
    )


@router.post(
    "/refresh",
    summary="Renew a session",
    response_model=SessionAnswer,
    responses=problem_responses(400, 401, 409, 413, 422, 429, 503),
)
async def refresh(request: Request, once: CurrentRequest, shown: ShownRefreshToken) -> Response:
    """Exchange a refresh token for the next token and refresh token. A second exchange of one ends its session."""
    shop_id = await _shop_of(request, shown.refresh_token)
    settings: Settings = request.app.state.settings

    async def work(connection: Connection) -> AboutCustomer:
        renewal = await refresh_tokens.renew_session(
            connection,
            shop_id,
            shown.refresh_token,
            ttl=settings.refresh_token_ttl,
            leeway=settings.refresh_token_leeway,
        )
        return await _answer(connection, shop_id, renewal, request)

    pool = request.app.state.web_pool
    try:
        return await once.run(Caller(shop_id, ANONYMOUS), shop_transaction(pool, shop_id), work)
    except ReusedTokenError as error:
        # What it was raised in is rolled back; this stays.
        async with shop_transaction(pool, shop_id) as connection:
            await refresh_tokens.end_session(connection, error.session_id, reason="reuse")
        raise _refused(error) from error
    except RefusedTokenError as error:
        raise _refused(error) from error


@router.post(
    "/end",
    status_code=204,
    summary="End a session",
    response_class=Response,
    responses=problem_responses(400, 401, 409, 413, 422, 429, 503),
)
async def end(request: Request, once: CurrentRequest, shown: ShownRefreshToken) -> Response:
    """Log the customer out on this device: the session's refresh tokens end. Its token runs out by itself."""
    shop_id = await _shop_of(request, shown.refresh_token)

    async def work(connection: Connection) -> None:
        await refresh_tokens.log_out(connection, shop_id, shown.refresh_token)

    try:
        transaction = shop_transaction(request.app.state.web_pool, shop_id)
        return await once.run(Caller(shop_id, ANONYMOUS), transaction, work, status=204)
    except RefusedTokenError as error:
        raise _refused(error) from error


async def _find_shop(request: Request, wanted: NewSession) -> tuple[int, int]:
    """Return the ids of the shop that is meant and of its app."""
    rows: list[asyncpg.Record] = await request.app.state.web_pool.fetch(
        "SELECT shop_id, app_id, handle FROM find_installed_shops($1)", wanted.shop
    )
    found = [row for row in rows if wanted.app is None or row["handle"] == wanted.app]
    if not found:
        raise unauthorized("auth.unknown_shop", "There is no such shop here.")
    if len(found) > 1:
        raise Problem(400, "request.ambiguous_shop", "The shop installed several apps: name one of them in `app`.")
    limits: Limits = request.app.state.limits
    await limits.take(Kind.MOBILE, found[0]["shop_id"])
    return found[0]["shop_id"], found[0]["app_id"]


async def _place(request: Request, wanted: NewSession, shop_id: int, app_id: int) -> AccountsPlace:
    async with shop_transaction(request.app.state.web_pool, shop_id) as connection:
        settings = (await read_settings(connection, shop_id)).settings
        shopify_url = await connection.fetchval(
            "SELECT replace(shopify_url, '{shop}', $2) FROM apps WHERE app_id = $1", app_id, wanted.shop
        )
    if settings.customer_account_client_id is None:
        detail = "The shop has not set its customer_account_client_id, so its customers cannot log in."
        raise Problem(403, "customer_accounts.not_configured", detail)
    return AccountsPlace(
        domain=wanted.shop,
        storefront_domain=settings.storefront_domain,
        client_id=settings.customer_account_client_id,
        shopify_url=shopify_url,
    )


async def _identify(request: Request, place: AccountsPlace, wanted: NewSession) -> int:
    accounts: CustomerAccounts = request.app.state.customer_accounts
    try:
        if wanted.id_token is not None:
            return await accounts.by_id_token(place, wanted.id_token, nonce=wanted.nonce or "")
        return await accounts.by_access_token(place, wanted.access_token or "")
    except CustomerRefusedError as error:
        raise unauthorized(error.code, f"{error}.".capitalize()) from error
    except AccountsUnavailableError as error:
        raise Problem(503, error.code, f"{error}.".capitalize(), headers=[("retry-after", "5")]) from error


async def _shop_of(request: Request, token: str) -> int:
    try:
        shop_id = refresh_tokens.shop_of(token)
    except RefusedTokenError as error:
        raise _refused(error) from error
    limits: Limits = request.app.state.limits
    await limits.take(Kind.MOBILE, shop_id)
    return shop_id


async def _answer(connection: Connection, shop_id: int, renewal: Renewal, request: Request) -> AboutCustomer:
    settings: Settings = request.app.state.settings
    session = CustomerSession(shop_id, renewal.customer_id)
    answer = SessionAnswer(
        token=await issue_token(connection, request.app.state.vault, session, ttl=settings.customer_token_ttl),
        expires_in=settings.customer_token_ttl,
        refresh_token=renewal.refresh_token,
        refresh_expires_in=settings.refresh_token_ttl,
    )
    return AboutCustomer(answer, renewal.customer_id)


def _refused(error: RefusedTokenError) -> Problem:
    return unauthorized(error.code, f"The refresh token was refused: {error}.")
