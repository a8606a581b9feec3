"""/auth/shopify/{app}: the authorization code grant, for apps that do not live inside Shopify's admin.

The browser is sent to the shop with a state, and comes back with it, a code and Shopify's signature. The state is
good once, for ten minutes, for one app and shop, and for the browser that holds the cookie which was set with it. Both
are random, and we keep digests alone. Nothing is signed with the app's secret: a signature that a browser sees could
be replayed as a webhook's.
"""

from __future__ import annotations

import time
from hashlib import sha256
from secrets import token_urlsafe
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Cookie, Path, Request
from starlette.responses import RedirectResponse, Response

from sellflow.edge.problems import Problem, problem_responses
from sellflow.settings import Settings
from sellflow.shopify.domains import HostileDomainError, base_url_of, read_shop_domain
from sellflow.shopify.query_signatures import InvalidQueryError, read_parameters, verify_query
from sellflow.shopify.tokens import TokenDelayedError
from sellflow.shopify.tokens.errors import CredentialsRefusedError, GrantRefusedError
from sellflow.shops.directory import AppDirectory
from sellflow.shops.install import Installer
from sellflow.shops.installation_store import begin_authorization, end_authorization
from sellflow.shops.models import App

PREFIX = "/auth/shopify"
COOKIE = "sellflow-authorization"
#: Seconds that a merchant may take to approve.
LIFETIME = 600

router = APIRouter(prefix=PREFIX, tags=["installation"])

Handle = Annotated[str, Path(description="The app's handle.", max_length=63)]


@router.get(
    "/{handle}",
    summary="Begin to install an app",
    status_code=302,
    response_class=Response,
    responses=problem_responses(400, 404, 503),
)
async def begin(request: Request, handle: Handle) -> Response:
    """Send the browser to the shop's admin, which asks the merchant for the app's scopes.

    `?shop=name.myshopify.com` is enough; where Shopify opens the app and signs the query, the signature is checked.
    """
    app, settings = await _find_app(request, handle), _settings(request)
    parameters = _parameters(request, app, is_signed="hmac" in request.query_params)
    domain = _shop(parameters)
    state, cookie = token_urlsafe(32), token_urlsafe(32)
    await begin_authorization(
        request.app.state.web_pool,
        state=_digest(state),
        cookie=_digest(cookie),
        app_id=app.app_id,
        domain=domain,
        seconds=LIFETIME,
    )
    installer: Installer = request.app.state.installer
    asked = {
        "client_id": app.client_id,
        "scope": ",".join(installer.wanted_scopes(app)),
        "redirect_uri": redirect_url(settings, app.handle),
        "state": state,
    }
    answer = _redirect(f"{base_url_of(domain, app.shopify_url)}/admin/oauth/authorize?{urlencode(asked)}")
    answer.set_cookie(
        COOKIE,
        cookie,
        max_age=LIFETIME,
        path=PREFIX,
        httponly=True,
        samesite="lax",
        secure=settings.public_url.startswith("https:"),
    )
    return answer


@router.get(
    "/{handle}/callback",
    summary="End to install an app",
    status_code=302,
    response_class=Response,
    responses=problem_responses(400, 403, 404, 502, 503),
)
async def end(
    request: Request, handle: Handle, cookie: Annotated[str, Cookie(alias=COOKIE, include_in_schema=False)] = ""
) -> Response:
    """Take the code that Shopify sent the browser back with, and open the app in the shop's admin."""
    app = await _find_app(request, handle)
    parameters = _parameters(request, app, is_signed=True)
    domain, code = _shop(parameters), parameters.get("code", "")
    is_ours = await end_authorization(
        request.app.state.web_pool,
        state=_digest(parameters.get("state", "")),
        cookie=_digest(cookie),
        app_id=app.app_id,
        domain=domain,
    )
    if not is_ours or not code:
        raise Problem(
            403,
            "shopify.unknown_state",
            f"This browser did not begin to install the app, or took longer than {LIFETIME // 60} minutes: begin anew "
            f"at {PREFIX}/{handle}?shop={domain}.",
        )
    await _install(request.app.state.installer, app, domain, code)
    answer = _redirect(f"{base_url_of(domain, app.shopify_url)}/admin/apps/{app.client_id}")
    answer.delete_cookie(COOKIE, path=PREFIX)
    return answer


def redirect_url(settings: Settings, handle: str) -> str:
    """Return the address that an app's dashboard has to name as one to come back to.

    Raises
    ------
    Problem
        If nobody outside knows where we are.
    """
    if not settings.public_url:
        raise Problem(
            503,
            "configuration.no_public_url",
            "Apps cannot be installed here yet: the operator sets SELLFLOW_PUBLIC_URL.",
        )
    return f"{settings.public_url}{PREFIX}/{handle}/callback"


async def _install(installer: Installer, app: App, domain: str, code: str) -> None:
    try:
        await installer.install_from_code(app, domain, code)
    except CredentialsRefusedError as error:
        raise Problem(502, error.code, f"{error}.") from error
    except GrantRefusedError as error:
        raise Problem(400, error.code, f"{error}. Begin anew.") from error
    except TokenDelayedError as error:
        raise Problem(503, error.code, f"{error}. Begin anew in a moment.", headers=[("retry-after", "5")]) from error


async def _find_app(request: Request, handle: str) -> App:
    apps: AppDirectory = request.app.state.apps
    app = await apps.find(handle)
    if app is None:
        raise Problem(404, "app.unknown", f"There is no app {handle!r} here.")
    return app


def _parameters(request: Request, app: App, *, is_signed: bool) -> dict[str, str]:
    try:
        if is_signed:
            return verify_query(request.url.query, app.secrets, now=time.time())
        return read_parameters(request.url.query)
    except InvalidQueryError as error:
        raise Problem(400, error.code, f"{error}.") from error


def _shop(parameters: dict[str, str]) -> str:
    try:
        return read_shop_domain(parameters.get("shop", ""))
    except HostileDomainError as error:
        raise Problem(400, error.code, f"{error}.") from error


def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


def _redirect(address: str) -> RedirectResponse:
    # The address holds what nobody else may read: it is neither kept nor told to the next site.
    return RedirectResponse(address, 302, headers={"cache-control": "no-store", "referrer-policy": "no-referrer"})


def _digest(text: str) -> bytes:
    return sha256(text.encode()).digest()
