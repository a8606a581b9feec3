"""Control routes: register an app, click as the merchant would, mint tokens and make them fail or age."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sellflow.errors import NotFoundError
from sellflow.simulator.oauth import session_tokens
from sellflow.simulator.oauth.models import Application, Installation
from sellflow.simulator.oauth.notices import scopes_updated
from sellflow.simulator.oauth.schemas import (
    AccessTokenInput,
    AgeInput,
    AppInput,
    FaultInput,
    InstallInput,
    ScopesInput,
    SessionTokenInput,
)
from sellflow.simulator.oauth.staff import owner_of
from sellflow.simulator.payload_parts import Json
from sellflow.simulator.routing import json_answer, parsed, simulator_of
from sellflow.simulator.schemas import Faults


async def register_app(request: Request) -> Response:
    """PUT /apps/{client_id}: make an app, or change it."""
    wanted = await parsed(request, AppInput)
    keys = [wanted.old_client_secret, wanted.client_secret]
    app = simulator_of(request).oauth.register(
        request.path_params["client_id"],
        secrets=tuple(key for key in keys if key),
        title=wanted.title,
        app_url=wanted.app_url,
        redirect_urls=wanted.redirect_urls,
        scopes=wanted.scopes,
        proxy=wanted.proxy.made() if wanted.proxy else None,
    )
    return json_answer(_described(app))


async def list_apps(request: Request) -> Response:
    """GET /apps: every app, secrets left out."""
    return json_answer({"apps": [_described(app) for app in simulator_of(request).oauth.apps.values()]})


async def install(request: Request) -> Response:
    """POST /shops/{domain}/install: install an app, as a merchant's click does."""
    wanted, domain = await parsed(request, InstallInput), _domain(request)
    return await _granted(request, domain, wanted.client_id, wanted.scopes, Faults())


async def list_installations(request: Request) -> Response:
    """GET /shops/{domain}/installations: the apps that a shop has, and what they may do."""
    found = simulator_of(request).oauth.installed(_domain(request))
    return json_answer({"installations": [_installed(one) for one in found]})


async def change_scopes(request: Request) -> Response:
    """PUT /shops/{domain}/installations/{client_id}/scopes: grant more or less, told by app/scopes_update."""
    wanted, domain, client_id = await parsed(request, ScopesInput), _domain(request), request.path_params["client_id"]
    if simulator_of(request).oauth.installation(domain, client_id) is None:
        raise NotFoundError(f"{domain} does not have the app {client_id}: POST /shops/{domain}/install")
    return await _granted(request, domain, client_id, wanted.scopes, wanted.faults)


async def _granted(
    request: Request, domain: str, client_id: str, scopes: Sequence[str] | None, faults: Faults
) -> Response:
    """Install an app or change what it may do; an app that was there before is told of the change."""
    simulator = simulator_of(request)
    before = simulator.oauth.installation(domain, client_id)
    after = simulator.oauth.install(domain, client_id, scopes)
    if before is not None and set(before.scopes) != set(after.scopes):
        notice = scopes_updated(simulator.oauth.app(client_id), simulator.shopify.shop(domain), before, after)
        await simulator.post(domain, [notice], faults)
    return json_answer(_installed(after))


async def mint_session_token(request: Request) -> Response:
    """POST /shops/{domain}/session-token: a session token, honest or hostile."""
    wanted, simulator, domain = await parsed(request, SessionTokenInput), simulator_of(request), _domain(request)
    app = simulator.oauth.app(wanted.client_id)
    at = simulator.oauth.now() - timedelta(seconds=wanted.age_seconds)
    claims = session_tokens.claims_of(domain, app, owner_of(domain, wanted.user_id), at) | wanted.claims
    return json_answer({"session_token": session_tokens.signed(claims, wanted.secret or app.signing_secret)})


async def mint_access_token(request: Request) -> Response:
    """POST /shops/{domain}/access-token: an Admin API token without any grant."""
    wanted, domain = await parsed(request, AccessTokenInput), _domain(request)
    life = None if wanted.expires_in is None else timedelta(seconds=wanted.expires_in)
    made = simulator_of(request).oauth.mint(domain, wanted.scopes, wanted.client_id, life)
    return json_answer({"access_token": made.token, "scope": ",".join(made.scopes)})


async def age_tokens(request: Request) -> Response:
    """POST /shops/{domain}/tokens/age: let a shop's tokens be older than they are."""
    wanted = await parsed(request, AgeInput)
    simulator_of(request).oauth.tokens.age(
        _domain(request), timedelta(seconds=wanted.access_seconds), timedelta(seconds=wanted.refresh_seconds)
    )
    return json_answer({})


async def plan_fault(request: Request) -> Response:
    """POST /shops/{domain}/oauth/faults: let the next calls fail."""
    simulator_of(request).trouble.plan(_domain(request), await parsed(request, FaultInput))
    return json_answer({})


async def forgive(request: Request) -> Response:
    """DELETE /shops/{domain}/oauth/faults: let no more calls fail."""
    simulator_of(request).trouble.forgive(_domain(request))
    return json_answer({})


async def list_calls(request: Request) -> Response:
    """GET /shops/{domain}/oauth/calls: how often each grant was asked for, and with what outcome."""
    counts = simulator_of(request).trouble.counts(_domain(request))
    return json_answer({"calls": {name: found.model_dump() for name, found in counts.items()}})


async def reset_calls(request: Request) -> Response:
    """DELETE /shops/{domain}/oauth/calls: count from nought."""
    simulator_of(request).trouble.reset(_domain(request))
    return json_answer({})


def _domain(request: Request) -> str:
    """Return the shop that a path names; one that does not exist is a 404."""
    return simulator_of(request).shopify.shop(request.path_params["domain"]).domain


def _described(app: Application) -> Json:
    return {
        "id": app.id,
        "client_id": app.client_id,
        "title": app.title,
        "app_url": app.app_url,
        "redirect_urls": app.redirect_urls,
        "scopes": app.scopes,
        "proxy": {"url": app.proxy.url, "path_prefix": app.proxy.path_prefix} if app.proxy else None,
    }


def _installed(one: Installation) -> Json:
    return {
        "shop": one.domain,
        "client_id": one.client_id,
        "scopes": one.scopes,
        "installed_at": one.installed_at.isoformat(),
    }


ROUTES = (
    Route("/apps", list_apps, methods=["GET"]),
    Route("/apps/{client_id}", register_app, methods=["PUT"]),
    Route("/shops/{domain}/install", install, methods=["POST"]),
    Route("/shops/{domain}/installations", list_installations, methods=["GET"]),
    Route("/shops/{domain}/installations/{client_id}/scopes", change_scopes, methods=["PUT"]),
    Route("/shops/{domain}/session-token", mint_session_token, methods=["POST"]),
    Route("/shops/{domain}/access-token", mint_access_token, methods=["POST"]),
    Route("/shops/{domain}/tokens/age", age_tokens, methods=["POST"]),
    Route("/shops/{domain}/oauth/faults", plan_fault, methods=["POST"]),
    Route("/shops/{domain}/oauth/faults", forgive, methods=["DELETE"]),
    Route("/shops/{domain}/oauth/calls", list_calls, methods=["GET"]),
    Route("/shops/{domain}/oauth/calls", reset_calls, methods=["DELETE"]),
)
