"""The documents that Shopify's admin shows in its frame, one address for each app: /admin/HANDLE."""

from __future__ import annotations

from contextlib import suppress
from html import escape
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Path, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from sellflow.edge.merchant_sessions import bounce_address, document_session
from sellflow.edge.problems import Problem
from sellflow.postgres.transactions import admin_transaction
from sellflow.settings import Settings
from sellflow.shopify.domains import HostileDomainError, read_shop_domain
from sellflow.shops.models import App
from sellflow.shops.plans.billing_store import ask_for_check

router = APIRouter(include_in_schema=False)

Handle = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]


@router.get("/admin/bounce/{handle}")
async def bounce(request: Request, handle: Handle) -> Response:
    """Load App Bridge, which gets a token and goes on to `shopify-reload`: a path of ours and nothing else."""
    app = await _app(request, handle)
    back = request.query_params.get("shopify-reload", "")
    if urlsplit(back).path != f"/admin/{handle}" or urlsplit(back).netloc or "\\" in back:
        raise Problem(400, "request.invalid", "shopify-reload leads somewhere else than back here.")
    settings: Settings = request.app.state.settings
    shop = request.query_params.get("shop", "")
    return HTMLResponse(
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Sellflow</title>'
        f"{_bridge(settings, app)}</head><body></body></html>",
        headers=frame_headers(settings, shop),
    )


@router.get("/admin/{handle}")
async def panel(request: Request, handle: Handle) -> Response:
    """Show the app's page, or send the visitor for a session token first."""
    app = await _app(request, handle)
    session = await document_session(request)
    if session is None or session.app_handle != handle:
        return RedirectResponse(bounce_address(request, handle), status_code=302)
    if "charge_id" in request.query_params:
        # A merchant comes back from a page about money. Which charge the address names is nobody's proof: we look.
        async with admin_transaction(request.app.state.admin_pool, session.shop_id) as connection:
            await ask_for_check(connection, [session.shop_id])
    settings: Settings = request.app.state.settings
    return HTMLResponse(
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Sellflow</title>'
        f'<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">'
        f"{_bridge(settings, app)}</head>"
        f"<body><main><h1>Sellflow</h1><p>Installed in {escape(session.domain)}.</p></main></body></html>",
        headers=frame_headers(settings, session.domain),
    )


def frame_headers(settings: Settings, domain: str) -> dict[str, str]:
    """Return the headers of a document that the shop's admin, and no other page, may frame.

    Shopify requires `frame-ancestors` to name the shop and its admin, for each shop anew.
    """
    ancestors = "https://admin.shopify.com"
    with suppress(HostileDomainError):  # nobody's shop: Shopify's admin alone may frame it
        ancestors = f"https://{read_shop_domain(domain)} {ancestors}"
    if settings.environment != "production":
        ancestors = f"{ancestors} {settings.simulator_url}"
    bridge = urlsplit(settings.app_bridge_url)
    return {
        "content-security-policy": f"default-src 'none'; script-src 'self' {bridge.scheme}://{bridge.netloc}; "
        f"style-src 'self'; img-src 'self' data:; connect-src 'self' {bridge.scheme}://{bridge.netloc}; "
        f"base-uri 'none'; form-action 'none'; frame-ancestors {ancestors}"
    }


def _bridge(settings: Settings, app: App) -> str:
    """Return the script that has to come first in a page inside Shopify's admin."""
    return f'<script src="{escape(settings.app_bridge_url)}" data-api-key="{escape(app.client_id)}"></script>'


async def _app(request: Request, handle: str) -> App:
    app: App | None = await request.app.state.apps.find(handle)
    if app is None:
        raise Problem(404, "not_found", "There is no such app.")
    return app
