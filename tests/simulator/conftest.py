"""A receiver, a simulator, and a client that talks to it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette

from sellflow.simulator.app import create_app

from .receiver import Receiver, listening

DOMAIN = "demo-shop.myshopify.com"
SECRET = "hush"


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with listening() as found:
        yield found


class Clock:
    """The present, until a test lets time pass."""

    def __init__(self) -> None:
        self.passed = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.passed

    def advance(self, **parts: float) -> None:
        self.passed += timedelta(**parts)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def app(clock: Clock) -> Starlette:
    return create_app(total_seconds=5, now=clock)


@pytest.fixture
async def api(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    """Call the simulator's API in this process; its webhooks go over sockets."""
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://simulator") as client,
    ):
        yield client


RegisterShop = Callable[..., Awaitable[dict[str, object]]]


@pytest.fixture
def register(api: httpx.AsyncClient, receiver: Receiver) -> RegisterShop:
    """Register the demo shop, pointed at the receiver; retries wait milliseconds."""

    async def call(domain: str = DOMAIN, **fields: object) -> dict[str, object]:
        wanted = {
            "webhook_url": receiver.url,
            "client_secret": SECRET,
            "time_compression": 100_000,
            "products": 5,
        }
        answer = await api.put(f"/shops/{domain}", json=wanted | fields)
        assert answer.status_code == 200, answer.text
        described: dict[str, object] = answer.json()
        return described

    return call


@asynccontextmanager
async def serving(app: Starlette) -> AsyncIterator[str]:
    """Run an application under uvicorn and give its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", ws="none"))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        # The socket listens already: what comes before the server is up waits in its backlog.
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task


@pytest.fixture
async def base_url() -> AsyncIterator[str]:
    """Run a simulator under uvicorn and give its address."""
    async with serving(create_app()) as url:
        yield url
