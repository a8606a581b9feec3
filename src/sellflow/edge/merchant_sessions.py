"""Merchants: which user of which shop calls from inside Shopify's admin."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlencode

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from sellflow.edge.callers import Caller
from sellflow.edge.limits import Kind, Limits
from sellflow.edge.problems import Problem
from sellflow.postgres.database import Pool
from sellflow.shopify.session_tokens import (
    InvalidSessionTokenError,
    SessionToken,
    StaleSessionTokenError,
    client_id_of,
    verify_session_token,
)
from sellflow.shopify.tokens import TokenDelayedError
from sellflow.shopify.tokens.errors import CredentialsRefusedError, GrantRefusedError
from sellflow.shops.directory import AppDirectory
from sellflow.shops.models import App

RETRY_HEADER = "X-Shopify-Retry-Invalid-Session-Request"
BOUNCE_PATH = "/admin/bounce"
INSTALL_PAUSE = 30.0  # seconds until Shopify is asked again for a shop for which it gave no token

bearer = HTTPBearer(auto_error=False, scheme_name="merchant", description="A session token of Shopify's App Bridge")

#: Returns the shop of a session token, which it exchanges for what the shop needs and has not: cheap where that is
#: nothing. None where an installation does not install by itself.
Install = Callable[[App, SessionToken], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class MerchantSession:
    """A user of a shop's admin."""

    shop_id: int
    domain: str
    user_id: int
    app_handle: str

    @property
    def caller(self) -> Caller:
        """Who it is for routes that serve services as well."""
        return Caller(self.shop_id, f"merchant:{self.user_id}")


async def open_session(request: Request, token: str) -> MerchantSession:
    """Return the session of a token, installing its shop where that is new.

    Raises
    ------
    InvalidSessionTokenError
        If the token is refused.
    Problem
        403, when the shop has not installed the app; 429, when it calls too often.
    """
    state = request.app.state
    app, said = await verify(token, state.apps)
    shop_id = await _installed(request, app, said)
    limits: Limits = state.limits
    await limits.take(Kind.MERCHANT, shop_id)
    return MerchantSession(shop_id, said.shop_domain, said.user_id, app.handle)


async def verify(token: str, apps: AppDirectory) -> tuple[App, SessionToken]:
    """Return what a token says, and the one of many apps that it is for.

    Raises
    ------
    InvalidSessionTokenError
        If it is refused, or of an app that is not known here; StaleSessionTokenError where a fresh one will do.
    """
    client_id = client_id_of(token)
    app = await apps.find_client(client_id)
    if app is None:
        raise InvalidSessionTokenError("the session token is for an app that is not known here")
    try:
        return app, verify_session_token(token, client_id=client_id, secrets=app.secrets)
    except StaleSessionTokenError:
        raise
    except InvalidSessionTokenError:
        # The app's secret may just have been rotated.
        renewed = await apps.find_again(app.handle, app)
        if renewed is None:
            raise
        return renewed, verify_session_token(token, client_id=client_id, secrets=renewed.secrets)


async def _find_shop(pool: Pool, app: App, said: SessionToken) -> int | None:
    found = await pool.fetchval(
        "SELECT shop_id FROM find_installed_shops($1) WHERE app_id = $2", said.shop_domain, app.app_id
    )
    return None if found is None else int(found)


async def _installed(request: Request, app: App, said: SessionToken) -> int:
    """Return the shop of a token, installed and with what it needs to call Shopify.

    A shop that is installed gets in although no token for calls can be had just now; it is tried again later.
    """
    state = request.app.state
    failures: dict[tuple[int, str], float] = state.install_failures
    name, refusal = (app.app_id, said.shop_domain), None
    install: Install | None = state.install_shop
    if install is not None and time.monotonic() - failures.get(name, float("-inf")) > INSTALL_PAUSE:
        try:
            return await install(app, said)
        except (CredentialsRefusedError, GrantRefusedError, TokenDelayedError) as error:
            failures[name] = time.monotonic()
            refusal = error
    shop_id = await _find_shop(state.admin_pool, app, said)
    if shop_id is None:
        why = f" ({refusal})" if refusal else ""
        detail = f"{said.shop_domain} has not installed this app{why}: install it from Shopify's admin, then try again."
        raise Problem(403, "shopify.not_installed", detail) from refusal
    return shop_id


async def merchant_session(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]
) -> MerchantSession:
    """Return the session of the request's bearer token (a FastAPI dependency)."""
    if credentials is None:
        raise _refusal("auth.missing_token", "Send App Bridge's session token as `Authorization: Bearer …`.")
    try:
        return await open_session(request, credentials.credentials)
    except InvalidSessionTokenError as error:
        is_stale = isinstance(error, StaleSessionTokenError)
        raise _refusal(error.code, f"{error}.".capitalize(), retry=is_stale) from error


def _refusal(code: str, detail: str, *, retry: bool = False) -> Problem:
    """Return a 401. With `retry`, App Bridge sends the request again with a fresh token."""
    headers = [("www-authenticate", "Bearer")]
    return Problem(401, code, detail, headers=[*headers, (RETRY_HEADER, "1")] if retry else headers)


CurrentMerchant = Annotated[MerchantSession, Depends(merchant_session)]


async def document_session(request: Request) -> MerchantSession | None:
    """Return the session of a document that Shopify's admin loads in its frame, by the token in its address.

    None where a fresh token is needed: then the answer is a redirect to `bounce_address`, whose page loads App Bridge,
    which comes back with one.
    """
    token = request.query_params.get("id_token")
    if not token:
        return None
    try:
        return await open_session(request, token)
    except InvalidSessionTokenError:
        return None


def bounce_address(request: Request, app_handle: str) -> str:
    """Return where a document without a valid token sends its visitor: back here, by way of App Bridge."""
    kept = [(name, value) for name, value in request.query_params.multi_items() if name != "id_token"]
    back = f"{request.url.path}?{urlencode(kept)}" if kept else request.url.path
    return f"{BOUNCE_PATH}/{app_handle}?{urlencode([*kept, ('shopify-reload', back)])}"
