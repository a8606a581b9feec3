"""The OAuth endpoints of a shop's admin, as Shopify serves them."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl

import orjson
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from sellflow.simulator.errors import RefusedError
from sellflow.simulator.oauth import grants, queries
from sellflow.simulator.oauth.access import AccessDeniedError, check_access
from sellflow.simulator.oauth.errors import OAuthRefusedError, unknown_application
from sellflow.simulator.oauth.schemas import Endpoint
from sellflow.simulator.oauth.staff import owner_of
from sellflow.simulator.routing import json_answer, simulator_of


async def access_token(request: Request) -> Response:
    """POST …/admin/oauth/access_token: give, exchange or refresh a token."""
    simulator, domain = simulator_of(request), request.path_params["domain"]
    simulator.shopify.shop(domain)
    parameters = await form_of(request)

    def act() -> Response:
        try:
            return json_answer(grants.answer(simulator.oauth, domain, parameters))
        except OAuthRefusedError as error:
            return refusal(error)

    grant = GRANT_NAMES.get(grants.grant_of(parameters), "other")
    return await simulator.trouble.around(act, domain=domain, endpoint=Endpoint.TOKEN, grant=grant)


async def authorize(request: Request) -> Response:
    """GET …/admin/oauth/authorize: the merchant approves at once, and is sent back with a code.

    An unknown app or a redirect that the app did not register ends here: nobody is sent to a foreign address.
    """
    simulator, domain, asked = simulator_of(request), request.path_params["domain"], request.query_params
    simulator.shopify.shop(domain)
    client_id, target = asked.get("client_id", ""), asked.get("redirect_uri", "")
    app = simulator.oauth.apps.get(client_id)
    if app is None:
        return _told(unknown_application(client_id))
    if target not in app.redirect_urls:
        return _told(OAuthRefusedError("invalid_request", "The redirect_uri is not whitelisted"))
    scopes = tuple(scope for scope in asked.get("scope", "").replace(" ", ",").split(",") if scope)
    installation = simulator.oauth.install(domain, client_id, scopes or app.scopes)
    staff = owner_of(domain) if "per-user" in asked.getlist("grant_options[]") else None
    back = {
        "code": simulator.oauth.give_code(installation, staff),
        "host": queries.host_of(domain),
        "shop": domain,
        "timestamp": str(int(simulator.oauth.now().timestamp())),
    }
    if "state" in asked:
        back["state"] = asked["state"]
    return RedirectResponse(queries.extended(target, queries.with_hmac(back, app.signing_secret)), 302)


async def access_scopes(request: Request) -> Response:
    """GET …/admin/oauth/access_scopes.json: what a token may do."""
    try:
        access = check_access(
            simulator_of(request).oauth, request.path_params["domain"], request.headers.get("X-Shopify-Access-Token")
        )
    except AccessDeniedError as error:
        return json_answer({"errors": str(error)}, 401)
    return json_answer({"access_scopes": [{"handle": scope} for scope in access.scopes]})


async def form_of(request: Request) -> Mapping[str, str]:
    """Return a request's parameters: JSON or a form, numbers as their text.

    Raises
    ------
    RefusedError
        If the body is neither.
    """
    body = await request.body()
    if "json" not in request.headers.get("Content-Type", ""):
        return dict(parse_qsl(body.decode("latin-1")))
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RefusedError("the body is no JSON") from error
    if not isinstance(found, dict):
        raise RefusedError("the body is no JSON object")
    return {name: value if isinstance(value, str) else f"{value}" for name, value in found.items()}


def refusal(error: OAuthRefusedError) -> Response:
    """Return the body of a refused request, as RFC 6749 has it."""
    return json_answer({"error": error.error, "error_description": error.description}, error.status)


def _told(error: OAuthRefusedError) -> Response:
    """Return a refusal for a person to read, as Shopify words it."""
    return PlainTextResponse(f"Oauth error {error.error}: {error.description}", error.status)


#: What the counters call each grant.
GRANT_NAMES = {
    grants.TOKEN_EXCHANGE: "token_exchange",
    "refresh_token": "refresh_token",
    "authorization_code": "authorization_code",
    "client_credentials": "client_credentials",
}

ROUTES = (
    Route("/shops/{domain}/admin/oauth/authorize", authorize, methods=["GET"]),
    Route("/shops/{domain}/admin/oauth/access_token", access_token, methods=["POST"]),
    Route("/shops/{domain}/admin/oauth/access_scopes.json", access_scopes, methods=["GET"]),
)
