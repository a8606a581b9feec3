"""The simulator's ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sellflow.simulator import compliance, order_routes, run_routes, shop_routes
from sellflow.simulator.accounts import routes as accounts
from sellflow.simulator.embedding import admin_page, app_proxy
from sellflow.simulator.graphql import control as admin_control
from sellflow.simulator.hosts import ShopHosts
from sellflow.simulator.oauth import control as oauth_control
from sellflow.simulator.oauth import routes as oauth_routes
from sellflow.simulator.routing import REFUSALS, json_answer, on_refusal
from sellflow.simulator.sender import TOTAL_SECONDS
from sellflow.simulator.service import SCHEMA_DIR, Simulator


def create_app(
    *,
    concurrency: int = 16,
    total_seconds: float = TOTAL_SECONDS,
    now: Callable[[], datetime] | None = None,
    schema_dir: Path = SCHEMA_DIR,
) -> Starlette:
    """Return the application; see `Simulator` for its parameters."""
    app = Starlette(
        routes=[
            Route("/healthz", healthy, methods=["GET"]),
            *shop_routes.ROUTES,
            *order_routes.ROUTES,
            *run_routes.ROUTES,
            *compliance.ROUTES,
            *oauth_control.ROUTES,
            *oauth_routes.ROUTES,
            *admin_page.ROUTES,
            *accounts.ROUTES,
            *app_proxy.ROUTES,
            *admin_control.ROUTES,
        ],
        middleware=[Middleware(ShopHosts)],
        exception_handlers=dict.fromkeys(REFUSALS, on_refusal),
        lifespan=_lifespan,
    )
    app.state.simulator = Simulator(
        concurrency=concurrency, total_seconds=total_seconds, now=now, schema_dir=schema_dir
    )
    return app


@asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await app.state.simulator.close()


async def healthy(_request: Request) -> Response:
    """GET /healthz: the process answers."""
    return json_answer({"status": "ok"})
