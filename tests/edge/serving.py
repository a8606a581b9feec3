"""The web role on a loopback socket, in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx

from sellflow.app import WebApplication
from sellflow.postgres.database import Database
from sellflow.roles import bind, build_registry, serve_http


def with_settings(database: Database, **changes: object) -> Database:
    """The same database under changed settings."""
    return replace(database, settings=database.settings.model_copy(update=changes))


@asynccontextmanager
async def serving(
    database: Database, change: Callable[[WebApplication], None] = lambda _: None, *, installs: bool = False
) -> AsyncIterator[httpx.AsyncClient]:
    """Serve the web role and yield a client of it; none of its answers may set a cookie.

    `change` is made to the application before it serves. Unless it `installs`, session tokens are not exchanged.
    """
    app = WebApplication(database, build_registry(database.settings))
    if not installs:
        app.api.state.install_shop = None  # it would ask Shopify itself
    change(app)
    # The socket listens already: what comes before the server is up waits in its backlog.
    listener = bind("127.0.0.1", 0, setting="SELLFLOW_WEB_PORT")
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    stop = asyncio.Event()
    server = asyncio.create_task(serve_http(app, listener, stop))
    try:
        async with httpx.AsyncClient(
            base_url=address, timeout=20, trust_env=False, event_hooks={"response": [_without_cookie]}
        ) as client:
            yield client
    finally:
        app.api.state.stopping.set()
        stop.set()
        await server


async def _without_cookie(response: httpx.Response) -> None:
    assert "set-cookie" not in response.headers
