"""The status page, and whether the process says truly how it is."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import httpx
import pytest

from sellflow.demo_shop import DEMO_APP, DEMO_DOMAIN, seed_demo_shop
from sellflow.postgres.database import Database, SessionConnection
from sellflow.secrets import Vault
from sellflow.status import page, snapshot
from tests.conftest import Tenant
from tests.edge.outage import relayed
from tests.edge.serving import serving, with_settings
from tests.webhooks.deliveries import Shopify, order_body

DEMO_SECRET = "sellflow-demo-secret"


@pytest.fixture(autouse=True)
async def _demo_shop(database: Database, owner: SessionConnection, vault: Vault) -> None:
    await seed_demo_shop(owner, vault, database.settings)


@pytest.fixture
def development(database: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    monkeypatch.setattr(snapshot, "MAX_AGE", 0.0)
    monkeypatch.setattr(page, "REFRESH", 0.05)
    return with_settings(database, environment="development")


async def order_arrives(client: httpx.AsyncClient) -> None:
    shopify = Shopify(client, app=DEMO_APP, secret=DEMO_SECRET)
    assert (await shopify.deliver(order_body(4242), shop=DEMO_DOMAIN)).status_code == 200


async def test_in_development_the_page_shows_what_happens_and_loads_nothing_from_outside(
    development: Database,
) -> None:
    async with serving(development) as client:
        await order_arrives(client)
        response = await client.get("/")
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/html; charset=utf-8"
        policy = response.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert response.headers["x-content-type-options"] == "nosniff"
        assert "order:4242" in response.text
        assert not re.search(r"https?://", response.text)
        assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|style=", response.text)
        for address in re.findall(r"(?:src|href)=\"(/[^\"]*)\"", response.text):
            asset = await client.get(address)
            assert asset.status_code == 200, address
            if address.startswith("/status/"):
                assert not re.search(r"https?://", asset.text)


async def test_what_an_event_is_called_cannot_become_markup(development: Database, owner: SessionConnection) -> None:
    async with serving(development) as client:
        await order_arrives(client)
        await owner.execute("UPDATE events SET key = '<script>alert(1)</script>'")
        text = (await client.get("/")).text
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text


async def test_in_production_the_page_shows_nothing_of_any_shop(database: Database, tenant: Tenant) -> None:
    async with serving(with_settings(database, environment="production")) as client:
        await order_arrives(client)
        response = await client.get("/")
        assert response.status_code == 200
        assert "It runs" in response.text
        for secret in ("4242", "myshopify", "loyalty", "Queues", "live.js"):
            assert secret not in response.text
        stream = await client.get("/status/stream")
        assert stream.status_code == 404
        assert stream.headers["content-type"] == "application/problem+json"


async def next_fragment(lines: object) -> str:
    """Read the data of the stream's next event."""
    data: list[str] = []
    async for line in lines:  # type: ignore[attr-defined]
        if line.startswith("data:"):
            data.append(line.removeprefix("data:"))
        elif not line and data:
            return "\n".join(data)
    raise AssertionError("the stream ended before its next event")


async def test_the_stream_sends_the_state_at_once_and_again_when_it_has_changed(development: Database) -> None:
    async with (
        asyncio.timeout(10),
        serving(development) as client,
        client.stream("GET", "/status/stream") as response,
    ):
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = response.aiter_lines()
        first = await next_fragment(lines)
        assert "What runs" in first
        assert "order:4242" not in first
        await order_arrives(client)
        while "order:4242" not in await next_fragment(lines):
            pass


async def test_too_many_viewers_are_turned_away(development: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "MOST_VIEWERS", 1)
    async with serving(development) as client, client.stream("GET", "/status/stream") as response:
        await next_fragment(response.aiter_lines())
        assert (await client.get("/status/stream")).status_code == 503


async def test_without_its_database_the_process_is_alive_not_ready_and_says_so(
    development: Database, tmp_path: Path
) -> None:
    async with relayed(development, tmp_path) as (distant, relay), serving(distant) as client:
        assert (await client.get("/readyz")).json() == {"status": "ready"}
        assert "database is away" not in (await client.get("/")).text

        await relay.cut()
        assert (await client.get("/healthz")).json() == {"status": "alive"}
        not_ready = await client.get("/readyz")
        assert (not_ready.status_code, not_ready.json()["status"]) == (503, "not ready")
        shown = await client.get("/")
        assert shown.status_code == 200
        assert "The database is away" in shown.text

        await relay.mend()
        assert (await client.get("/readyz")).status_code == 200
        assert "The database is away" not in (await client.get("/")).text


async def test_metrics_are_not_served_on_the_public_port(development: Database) -> None:
    async with serving(development) as client:
        assert (await client.get("/metrics")).status_code == 404
