"""App proxies: a storefront's path that Shopify forwards to an app, with a signed query.

What is forwarded, and what is taken away on the way, follows Shopify's pages on app proxies.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

import httpx
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sellflow.errors import NotFoundError
from sellflow.simulator.oauth import queries
from sellflow.simulator.oauth.models import Application, Proxy
from sellflow.simulator.oauth.service import OAuth
from sellflow.simulator.routing import simulator_of

#: The cookie that plays a customer's session in the storefront; its value is the customer's id.
CUSTOMER_COOKIE = "simulated_customer"
SECONDS = 10.0

ADDED = ("shop", "logged_in_customer_id", "path_prefix", "timestamp", "signature")
# Cookies belong to the storefront, and the rest to one connection only.
NOT_FORWARDED = frozenset({"cookie", "host", "content-length", "connection", "transfer-encoding", "accept-encoding"})
NOT_RETURNED = frozenset(
    {"set-cookie", "content-length", "connection", "transfer-encoding", "content-encoding", "date"}
)


async def forward(request: Request) -> Response:
    """GET|POST|… /shops/{domain}/{prefix}/{subpath}/…: ask the app, and answer what it answers."""
    simulator, domain = simulator_of(request), request.path_params["domain"]
    simulator.shopify.shop(domain)
    prefix = request.url.path.removeprefix(f"/shops/{domain}/").partition("/")[0]
    app, proxy = proxy_of(simulator.oauth, domain, f"/{prefix}/{request.path_params['subpath']}")
    session = request.cookies.get(CUSTOMER_COOKIE, "")
    signed_in = next((one.id for one in simulator.shopify.customers(domain) if str(one.id) == session), None)
    query = signed_query(
        request.query_params.multi_items(),
        app,
        shop=domain,
        logged_in_customer_id="" if signed_in is None else str(signed_in),
        path_prefix=proxy.path_prefix,
        timestamp=str(int(simulator.oauth.now().timestamp())),
    )
    rest = quote(request.path_params.get("path", ""))
    headers = {name: value for name, value in request.headers.items() if name not in NOT_FORWARDED}
    headers["X-Forwarded-Host"] = domain
    try:
        # A proxy set in the environment must not get between two programs on this machine.
        async with httpx.AsyncClient(timeout=SECONDS, trust_env=False) as client:
            found = await client.request(
                request.method,
                queries.extended(f"{proxy.url}/{rest}" if rest else proxy.url, query),
                content=await request.body(),
                headers=headers,
            )
    except httpx.HTTPError as error:
        return Response(f"The app behind {proxy.url} did not answer: {error}", 502, media_type="text/plain")
    kept = {name: value for name, value in found.headers.items() if name not in NOT_RETURNED}
    return Response(found.content, found.status_code, headers=kept)


def proxy_of(oauth: OAuth, domain: str, path_prefix: str) -> tuple[Application, Proxy]:
    """Return the installed app that a storefront's path belongs to.

    Raises
    ------
    NotFoundError
        If no app of the shop has it.
    """
    for installation in oauth.installed(domain):
        app = oauth.app(installation.client_id)
        if app.proxy is not None and app.proxy.path_prefix == path_prefix:
            return app, app.proxy
    raise NotFoundError(f"no app that is installed in {domain} has the app proxy {path_prefix}")


def signed_query(own: Sequence[tuple[str, str]], app: Application, **added: str) -> str:
    """Return the query that the app gets: the shopper's, less what only Shopify may say, and what Shopify adds."""
    return queries.with_signature([*queries.without(own, ADDED), *added.items()], app.signing_secret)


METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
PREFIXES = ("a", "apps", "community", "tools")
ROUTES = tuple(
    Route(f"/shops/{{domain}}/{prefix}/{{subpath}}{rest}", forward, methods=METHODS)
    for prefix in PREFIXES
    for rest in ("", "/{path:path}")
)
