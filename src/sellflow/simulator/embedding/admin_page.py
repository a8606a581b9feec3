"""A page that plays the Shopify admin: its frame, an app inside it, and a stand-in for App Bridge."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote, urlsplit

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.templating import Jinja2Templates

from sellflow.errors import NotFoundError
from sellflow.simulator.models import Shop
from sellflow.simulator.oauth import queries, session_tokens
from sellflow.simulator.oauth.models import Application
from sellflow.simulator.oauth.service import OAuth
from sellflow.simulator.oauth.staff import owner_of
from sellflow.simulator.routing import simulator_of

HERE = Path(__file__).parent
templates = Jinja2Templates(HERE / "templates")


async def admin_page(request: Request) -> Response:
    """GET /shops/{domain}/admin/apps/{client_id}/…: the app in its frame, or the question whether to install it."""
    simulator, domain = simulator_of(request), request.path_params["domain"]
    shop, app = simulator.shopify.shop(domain), simulator.oauth.app(request.path_params["client_id"])
    installation = simulator.oauth.installation(domain, app.client_id)
    missing = [scope for scope in app.scopes if installation is None or scope not in installation.scopes]
    is_ready = installation is not None and not missing
    path = request.path_params.get("path", "")
    context = {
        "shop": shop,
        "name": domain.partition(".")[0].replace("-", " ").title(),
        "app": app,
        "staff": owner_of(domain),
        "origin": "{0.scheme}://{0.netloc}".format(urlsplit(app.app_url)),
        "frame": embedded_url(simulator.oauth, shop, app, path) if is_ready else None,
        "is_installed": installation is not None,
        "missing": missing or app.scopes,
        "apps": [simulator.oauth.app(one.client_id) for one in simulator.oauth.installed(domain)],
    }
    return templates.TemplateResponse(request, "admin.html", context, headers={"cache-control": "no-store"})


async def app_bridge(_request: Request) -> Response:
    """GET /app-bridge.js: what an app's page loads in place of App Bridge."""
    return FileResponse(HERE / "static" / "app-bridge.js", media_type="text/javascript", headers=SHARED)


async def admin_home(request: Request) -> Response:
    """GET /shops/{domain}/admin: the apps that the shop has."""
    simulator, domain = simulator_of(request), request.path_params["domain"]
    shop = simulator.shopify.shop(domain)
    if not simulator.oauth.apps:
        raise NotFoundError("no app is registered yet: PUT /apps/{client_id}")
    context = {
        "shop": shop,
        "name": domain.partition(".")[0].replace("-", " ").title(),
        "app": None,
        "staff": owner_of(domain),
        "apps": list(simulator.oauth.apps.values()),
    }
    return templates.TemplateResponse(request, "admin.html", context, headers={"cache-control": "no-store"})


def embedded_url(oauth: OAuth, shop: Shop, app: Application, path: str = "") -> str:
    """Return the address that the admin gives its frame: the app's, with Shopify's signed query."""
    now, staff = oauth.now(), owner_of(shop.domain)
    claims = session_tokens.claims_of(shop.domain, app, staff, now)
    query = {
        "embedded": "1",
        "host": queries.host_of(shop.domain),
        "id_token": session_tokens.signed(claims, app.signing_secret),
        "locale": shop.market.locale,
        "session": str(claims["sid"]),
        "shop": shop.domain,
        "timestamp": str(int(now.timestamp())),
    }
    # Joined as text: to `urljoin` a path of two slashes is another host.
    target = f"{app.app_url.rstrip('/')}/{quote(path.lstrip('/'))}" if path else app.app_url
    return queries.extended(target, queries.with_hmac(query, app.signing_secret))


SHARED = {"access-control-allow-origin": "*", "cache-control": "no-cache"}
ROUTES = (
    Route("/app-bridge.js", app_bridge, methods=["GET"]),
    Mount("/admin-page", StaticFiles(directory=HERE / "static")),
    Route("/shops/{domain}/admin", admin_home, methods=["GET"]),
    Route("/shops/{domain}/admin/apps/{client_id}", admin_page, methods=["GET"]),
    Route("/shops/{domain}/admin/apps/{client_id}/{path:path}", admin_page, methods=["GET"]),
)
