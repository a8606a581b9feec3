"""The simulated Shopify on a loopback socket, with an app and a shop of the product's that live in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from sellflow.postgres.database import SessionConnection
from sellflow.roles import bind, serve_http
from sellflow.shopify.domains import PLACEHOLDER
from sellflow.simulator.app import create_app
from sellflow.simulator.service import Simulator
from tests.conftest import SECRET, Tenant

SCHEMAS = Path(__file__).parents[2] / ".cache/shopify-schemas"
SCOPES = ("read_customers", "read_orders", "write_discounts")


class SimulatedShopify:
    """Does what merchants, and Shopify itself, would do; and says what was asked of it."""

    def __init__(self, url: str, client: httpx.AsyncClient, simulator: Simulator) -> None:
        self.url = url
        self._client = client
        self._simulator = simulator

    @property
    def pattern(self) -> str:
        """Where a shop is found, as `apps.shopify_url` has it."""
        return f"{self.url}/shops/{PLACEHOLDER}"

    async def do(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Any:  # noqa: ANN401 - JSON
        answer = await self._client.request(method, path, json=dict(body or {}))
        assert answer.is_success, answer.text
        return answer.json()

    async def move_in(
        self,
        owner: SessionConnection,
        tenant: Tenant,
        *,
        is_installed: bool = True,
        webhooks: str = "http://127.0.0.1:9/",
    ) -> None:
        """Make the simulator know a tenant's app and shop, and the app know that its Shopify is the simulator."""
        await owner.execute(
            "UPDATE apps SET shopify_url = $2, scopes = $3 WHERE app_id = $1", tenant.app.app_id, self.pattern, SCOPES
        )
        await self.do("PUT", f"/shops/{tenant.shop.domain}", {"webhook_url": webhooks, "client_secret": SECRET})
        await self.do("PUT", f"/apps/{tenant.app.client_id}", {"client_secret": SECRET, "scopes": SCOPES})
        if is_installed:
            await self.install(tenant)

    async def install(self, tenant: Tenant, *scopes: str) -> None:
        """Click on Install."""
        asked = {"client_id": tenant.app.client_id, "scopes": scopes or None}
        await self.do("POST", f"/shops/{tenant.shop.domain}/install", asked)

    async def uninstall(self, tenant: Tenant) -> None:
        """Click on Uninstall: tokens end at once."""
        await self.do("POST", f"/shops/{tenant.shop.domain}/uninstall")

    async def session_token(self, tenant: Tenant, **changes: object) -> str:
        """Return what App Bridge gives the app's page."""
        asked = {"client_id": tenant.app.client_id, **changes}
        made = await self.do("POST", f"/shops/{tenant.shop.domain}/session-token", asked)
        return str(made["session_token"])

    async def permanent_token(self, tenant: Tenant) -> str:
        """Return a token without expiry, by the request that asked for one before there were others."""
        asked = {
            "client_id": tenant.app.client_id,
            "client_secret": SECRET,
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "subject_token": await self.session_token(tenant),
            "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
            "requested_token_type": "urn:shopify:params:oauth:token-type:offline-access-token",
        }
        made = await self.do("POST", f"/shops/{tenant.shop.domain}/admin/oauth/access_token", asked)
        return str(made["access_token"])

    async def plan(self, tenant: Tenant, kind: str, **fault: object) -> None:
        """Let the next calls of the token endpoint fail."""
        await self.do("POST", f"/shops/{tenant.shop.domain}/oauth/faults", {"kind": kind, **fault})

    async def age(self, tenant: Tenant, **seconds: float) -> None:
        """Let a shop's tokens be older than they are."""
        await self.do("POST", f"/shops/{tenant.shop.domain}/tokens/age", seconds)

    async def calls(self, tenant: Tenant, grant: str) -> dict[str, int]:
        """Return how often a grant was asked for: received, granted, refused and failed."""
        found = await self.do("GET", f"/shops/{tenant.shop.domain}/oauth/calls")
        counts: dict[str, int] = found["calls"].get(
            grant, dict.fromkeys(("received", "granted", "refused", "failed"), 0)
        )
        return counts

    async def graphql(self, domain: str, token: str, query: str) -> Any:  # noqa: ANN401 - JSON
        """Return the data of a query of the Admin API."""
        answer = await self._client.post(
            f"/shops/{domain}/admin/api/2026-10/graphql.json",
            json={"query": query},
            headers={"X-Shopify-Access-Token": token},
        )
        return answer.json().get("data")

    async def delivered(self, tenant: Tenant) -> None:
        """Wait until every webhook of a shop has its outcome."""
        await self._simulator.outbox(tenant.shop.domain).drain()

    async def accepts(self, tenant: Tenant, token: str) -> bool:
        """Say whether the Admin API takes a token."""
        answer = await self._client.get(
            f"/shops/{tenant.shop.domain}/admin/oauth/access_scopes.json", headers={"X-Shopify-Access-Token": token}
        )
        assert answer.status_code in (200, 401)
        return answer.status_code == 200


@asynccontextmanager
async def simulating() -> AsyncIterator[SimulatedShopify]:
    """Serve a simulator for as long as the block runs."""
    listener = bind("127.0.0.1", 0, setting="SELLFLOW_SIMULATOR_PORT")
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    stop = asyncio.Event()
    app = create_app(total_seconds=5, schema_dir=SCHEMAS)
    server = asyncio.create_task(serve_http(app, listener, stop))
    try:
        # Ours ends an idle connection before the server does, which is after 5 s: else both may at once.
        limits = httpx.Limits(keepalive_expiry=2)
        async with httpx.AsyncClient(base_url=url, timeout=20, trust_env=False, limits=limits) as client:
            yield SimulatedShopify(url, client, app.state.simulator)
    finally:
        stop.set()
        await server
