"""The endpoints of the Customer Account API: discovery, sign-in, tokens, keys, sign-out and GraphQL."""

from __future__ import annotations

import jwt
import orjson
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from sellflow.errors import NotFoundError
from sellflow.simulator.accounts.errors import SchemaMissingError
from sellflow.simulator.accounts.login import authorize
from sellflow.simulator.accounts.models import Client
from sellflow.simulator.accounts.places import base_of, cookie_path
from sellflow.simulator.accounts.schemas import ClientInput, RotationInput
from sellflow.simulator.accounts.sessions import SCOPES, issuer_of
from sellflow.simulator.embedding.app_proxy import CUSTOMER_COOKIE
from sellflow.simulator.errors import RefusedError
from sellflow.simulator.models import API_VERSION, Shop
from sellflow.simulator.oauth.errors import OAuthRefusedError
from sellflow.simulator.oauth.routes import form_of, refusal
from sellflow.simulator.oauth.schemas import Endpoint
from sellflow.simulator.routing import json_answer, parsed, simulator_of


async def openid_configuration(request: Request) -> Response:
    """GET …/.well-known/openid-configuration: where to sign in."""
    shop = _shop(request)
    home = f"{base_of(request)}/authentication/{shop.id}"
    return json_answer(
        {
            "issuer": issuer_of(shop),
            "authorization_endpoint": f"{home}/oauth/authorize",
            "token_endpoint": f"{home}/oauth/token",
            "end_session_endpoint": f"{home}/logout",
            "jwks_uri": f"{home}/.well-known/jwks.json",
            "scopes_supported": SCOPES,
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "token_endpoint_auth_methods_supported": ["none"],
            "code_challenge_methods_supported": ["S256"],
        }
    )


async def account_configuration(request: Request) -> Response:
    """GET …/.well-known/customer-account-api: where the API is."""
    _shop(request)
    return json_answer({"graphql_api": f"{base_of(request)}/customer/api/{API_VERSION}/graphql"})


async def keys(request: Request) -> Response:
    """GET …/.well-known/jwks.json: what id tokens are checked with."""
    published = simulator_of(request).accounts.keys[_shop(request).domain].published
    return json_answer(await run_in_threadpool(published))


async def token(request: Request) -> Response:
    """POST …/oauth/token: tokens for a code, or for a refresh token."""
    simulator, shop, parameters = simulator_of(request), _shop(request), await form_of(request)

    def act() -> Response:
        customers = {customer.id: customer for customer in simulator.shopify.customers(shop.domain)}
        try:
            return json_answer(simulator.accounts.answer(shop, customers, parameters))
        except OAuthRefusedError as error:
            return refusal(error)

    return await simulator.trouble.around(act, domain=shop.domain, endpoint=Endpoint.CUSTOMER_TOKEN)


async def logout(request: Request) -> Response:
    """GET …/logout: end what a customer's logins gave out, and go back where the client registered it."""
    simulator, shop, query = simulator_of(request), _shop(request), request.query_params
    try:
        # Only read: an id token that expired, or was signed by a key since dropped, still says who leaves.
        hint = jwt.decode(query.get("id_token_hint", ""), options={"verify_signature": False})
        client = simulator.accounts.client(shop.domain, str(hint.get("aud")))
        customer_id = int(str(hint.get("sub")))
    except (jwt.InvalidTokenError, NotFoundError, ValueError):
        return PlainTextResponse("id_token_hint is missing or invalid", 400)
    target = query.get("post_logout_redirect_uri")
    if target is not None and target not in client.logout_uris:
        return PlainTextResponse("post_logout_redirect_uri mismatch: the client has not registered it", 400)
    simulator.accounts.sign_out(shop.domain, customer_id)
    answer = RedirectResponse(target, 302) if target else PlainTextResponse("You are signed out.")
    answer.delete_cookie(CUSTOMER_COOKIE, path=cookie_path(request))
    return answer


async def graphql(request: Request) -> Response:
    """POST …/customer/api/{version}/graphql: what a signed-in customer may read."""
    from sellflow.simulator.accounts.graphql import answer_of  # noqa: PLC0415 - only who asks needs the library

    simulator, shop = simulator_of(request), _shop(request)
    if request.path_params["version"] != API_VERSION:
        return json_answer({"errors": f"Not Found: this shop answers version {API_VERSION}"}, 404)
    try:
        asked = orjson.loads(await request.body())
    except orjson.JSONDecodeError as error:
        raise RefusedError("the body is no JSON") from error
    given = request.headers.get("Authorization", "").removeprefix("Bearer ")

    def act() -> Response:
        login = simulator.accounts.signed_in(shop.domain, given)
        if login is None:
            return json_answer({"errors": [{"message": "Invalid token", "extensions": {"code": "UNAUTHORIZED"}}]}, 401)
        try:
            return json_answer(answer_of(simulator, shop, login.customer_id, asked))
        except SchemaMissingError as error:
            return json_answer({"errors": [{"message": str(error)}]}, 501)

    return await simulator.trouble.around(act, domain=shop.domain, endpoint=Endpoint.CUSTOMER_API)


async def register_client(request: Request) -> Response:
    """PUT /shops/{domain}/customer-clients/{client_id}: a public client, such as a mobile app."""
    wanted, shop, client_id = await parsed(request, ClientInput), _shop(request), request.path_params["client_id"]
    redirects = wanted.redirect_uris or (f"shop.{shop.id}.app://callback",)
    client = simulator_of(request).accounts.register(shop.domain, Client(client_id, redirects, wanted.logout_uris))
    return json_answer(
        {"client_id": client_id, "redirect_uris": client.redirect_uris, "logout_uris": client.logout_uris}
    )


async def rotate_keys(request: Request) -> Response:
    """POST /shops/{domain}/customer-keys/rotate: sign with a new key."""
    wanted, shop = await parsed(request, RotationInput), _shop(request)
    return json_answer({"kid": simulator_of(request).accounts.keys[shop.domain].rotate(keep_old=wanted.keep_old)})


def _shop(request: Request) -> Shop:
    """Return the shop that a path names; where it has the shop's id as well, both must be of one shop."""
    shop = simulator_of(request).shopify.shop(request.path_params["domain"])
    if request.path_params.get("shop_id", shop.id) != shop.id:
        raise NotFoundError(f"{shop.domain} is not the shop {request.path_params['shop_id']}")
    return shop


HOME = "/shops/{domain}/authentication/{shop_id:int}"
ROUTES = (
    Route("/shops/{domain}/.well-known/openid-configuration", openid_configuration, methods=["GET"]),
    Route("/shops/{domain}/.well-known/customer-account-api", account_configuration, methods=["GET"]),
    Route(f"{HOME}/oauth/authorize", authorize, methods=["GET", "POST"]),
    Route(f"{HOME}/oauth/token", token, methods=["POST"]),
    Route(f"{HOME}/logout", logout, methods=["GET"]),
    Route(f"{HOME}/.well-known/jwks.json", keys, methods=["GET"]),
    Route("/shops/{domain}/customer/api/{version}/graphql", graphql, methods=["POST"]),
    Route("/shops/{domain}/customer-clients/{client_id}", register_client, methods=["PUT"]),
    Route("/shops/{domain}/customer-keys/rotate", rotate_keys, methods=["POST"]),
)
