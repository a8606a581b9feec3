"""The page where a customer signs in: one chooses who to be, and there is no password."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlencode

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.templating import Jinja2Templates

from sellflow.errors import NotFoundError
from sellflow.simulator.accounts.models import Asked
from sellflow.simulator.accounts.places import cookie_path
from sellflow.simulator.accounts.sessions import SCOPES
from sellflow.simulator.embedding.app_proxy import CUSTOMER_COOKIE
from sellflow.simulator.models import Customer
from sellflow.simulator.oauth.errors import OAuthRefusedError
from sellflow.simulator.oauth.queries import extended
from sellflow.simulator.oauth.routes import form_of
from sellflow.simulator.routing import simulator_of

MOST_SHOWN = 50
templates = Jinja2Templates(Path(__file__).parent / "templates")


async def authorize(request: Request) -> Response:
    """GET|POST …/oauth/authorize: sign in and go back with a code.

    `login_hint` (an email or an id of the shop) signs in without a page, and so does a customer who is signed in.
    A client that is unknown, or a redirect that it did not register, ends here: nobody is sent to a foreign address.
    """
    simulator, domain, query = simulator_of(request), request.path_params["domain"], request.query_params
    simulator.shopify.shop(domain)
    try:
        client = simulator.accounts.client(domain, query.get("client_id", ""))
    except NotFoundError as error:
        return PlainTextResponse(str(error), 400)
    target, state = query.get("redirect_uri", ""), query.get("state")
    if target not in client.redirect_uris:
        return PlainTextResponse("redirect_uri mismatch: the client has not registered it", 400)
    try:
        challenge, scope = checked(query)
    except OAuthRefusedError as error:
        return _back(target, {"error": error.error, "error_description": error.description}, state)
    return await _signed_in(request, Asked(client, target, scope, challenge, state, query.get("nonce")))


async def _signed_in(request: Request, asked: Asked) -> Response:
    """Send the customer back who was chosen, or show whom one can choose."""
    simulator, domain, query = simulator_of(request), request.path_params["domain"], request.query_params
    customers = simulator.shopify.customers(domain)
    form = await form_of(request)
    chosen = chosen_of(customers, form.get("customer"), query.get("login_hint"), request.cookies.get(CUSTOMER_COOKIE))
    if chosen is None and query.get("prompt") == "none":
        return _back(asked.redirect_uri, {"error": "login_required"}, asked.state)
    if chosen is None:
        shop = simulator.shopify.shop(domain)
        context = {"shop": shop, "customers": customers[:MOST_SHOWN], "more": len(customers) - MOST_SHOWN}
        return templates.TemplateResponse(request, "login.html", context, headers={"cache-control": "no-store"})
    answer = _back(asked.redirect_uri, {"code": simulator.accounts.sign_in(domain, chosen, asked)}, asked.state)
    answer.set_cookie(CUSTOMER_COOKIE, str(chosen.id), path=cookie_path(request), httponly=True, samesite="lax")
    return answer


def checked(query: QueryParams) -> tuple[str, str]:
    """Return the challenge and the scope of a request to sign in.

    Raises
    ------
    OAuthRefusedError
        If it is not what a public client has to ask.
    """
    if query.get("response_type") != "code":
        raise OAuthRefusedError("unsupported_response_type", "response_type must be code")
    if query.get("code_challenge_method") != "S256" or not query.get("code_challenge"):
        raise OAuthRefusedError("invalid_request", "a public client needs code_challenge and the method S256")
    scopes = query.get("scope", "").split()
    if "openid" not in scopes or not set(scopes) <= set(SCOPES):
        raise OAuthRefusedError("invalid_scope", f"scope must hold openid and nothing beyond {' '.join(SCOPES)}")
    return query["code_challenge"], " ".join(scopes)


def chosen_of(customers: list[Customer], *names: object) -> Customer | None:
    """Return the customer that the first of `names` (ids or emails) means, if any of them does."""
    for name in names:
        for customer in customers if isinstance(name, str) and name else ():
            if name in (str(customer.id), customer.email):
                return customer
    return None


def _back(target: str, found: Mapping[str, str], state: str | None) -> RedirectResponse:
    query = urlencode({**found, **({} if state is None else {"state": state})})
    return RedirectResponse(extended(target, query), 302)
