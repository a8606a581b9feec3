"""The routes of the status page. In production it says that Sellflow runs, and nothing of any shop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

from fastapi import APIRouter, Request
from sse_starlette import EventSourceResponse
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.templating import Jinja2Templates

from sellflow import __version__
from sellflow.postgres.database import UNAVAILABLE
from sellflow.settings import Settings
from sellflow.status.snapshot import Snapshot, Snapshots
from sellflow.waiting import wait_at_most

HERE = Path(__file__).parent
REFRESH = 1.0
MOST_VIEWERS = 20
SECURITY_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}

templates = Jinja2Templates(HERE / "templates")
templates.env.filters["thousands"] = lambda number: f"{number:,}"
router = APIRouter(include_in_schema=False)
static_files = StaticFiles(directory=HERE / "static")


@router.get("/")
async def page(request: Request) -> Response:
    """Show the page; its live part is filled in at once and refreshed by the stream."""
    settings: Settings = request.app.state.settings
    shown = None if settings.environment == "production" else await _snapshot(request)
    context = {"version": __version__, "settings": settings, "snapshot": shown}
    return templates.TemplateResponse(request, "page.html", context, headers=SECURITY_HEADERS)


@router.get("/status/stream")
async def stream(request: Request) -> Response:
    """Send the live part anew every second (server-sent events)."""
    state = request.app.state
    if state.settings.environment == "production":
        raise HTTPException(404, "There is no status stream in production")
    if state.viewers >= MOST_VIEWERS:
        raise HTTPException(503, f"{MOST_VIEWERS} pages are open already")
    return EventSourceResponse(_fragments(request), headers={"cache-control": "no-store"})


async def _fragments(request: Request) -> AsyncIterator[dict[str, str]]:
    state = request.app.state
    state.viewers += 1
    shown = ""
    try:
        while not await request.is_disconnected() and not state.stopping.is_set():
            snapshot = await _snapshot(request)
            fragment = templates.get_template("live.html").render(snapshot=snapshot, settings=state.settings)
            if fragment != shown:
                shown = fragment
                yield {"event": "live", "data": fragment}
            await wait_at_most(state.stopping, REFRESH)
    finally:
        state.viewers -= 1


async def _snapshot(request: Request) -> Snapshot | None:
    """Return what is to be shown, or None while the database is away: the page says so."""
    snapshots: Snapshots = request.app.state.snapshots
    try:
        return await snapshots.newest()
    except UNAVAILABLE:
        return None
