"""The web role's ASGI application: webhooks by a short way, everything else through FastAPI."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.routing import Mount

from sellflow import __version__
from sellflow.admin.routes import admin_routes
from sellflow.demo_shop import DEMO_APP, DEMO_DOMAIN
from sellflow.edge import sessions_api, shopify_authorization
from sellflow.edge.customer_accounts import CustomerAccounts
from sellflow.edge.customer_tokens import TokenVerifier
from sellflow.edge.hardening import Hardened
from sellflow.edge.limits import Limits
from sellflow.edge.plan_limits import PlanRates
from sellflow.edge.problems import ProblemDetails, answer_with_problems
from sellflow.loyalty import imports_api, mobile_api
from sellflow.postgres.database import Database, Login, Pool, close_pool
from sellflow.postgres.revisions import check_schema
from sellflow.postgres.transactions import of_web
from sellflow.queue.figures import QueueFigures, read_figures
from sellflow.queue.registry import Registry
from sellflow.secrets import build_vault
from sellflow.shopify.admin.opening import admin_client
from sellflow.shopify.session_tokens import SessionToken
from sellflow.shopify.tokens.endpoint import TokenEndpoint
from sellflow.shops.directory import AppDirectory
from sellflow.shops.install import Installer
from sellflow.shops.models import App
from sellflow.shops.plans.offers import Offers
from sellflow.status import page
from sellflow.status.endpoints import health_routes
from sellflow.status.health import Health
from sellflow.status.snapshot import Snapshots
from sellflow.webhooks.group_commit import GroupCommit
from sellflow.webhooks.ingest import PATH, WebhookIngest
from sellflow.webhooks.store import DeliveryStore


class WebApplication:
    """Sends deliveries straight to the ingest endpoint and everything else to FastAPI."""

    def __init__(self, database: Database, registry: Registry) -> None:
        self._database = database
        self._registry = registry
        self.vault = build_vault(database.settings)
        self._ingest: WebhookIngest | None = None
        self.api = _api(self._lifespan)
        self.api.state.settings = database.settings
        self.api.state.stopping = asyncio.Event()
        self.api.state.viewers = 0
        self.api.state.registry = registry
        self.api.state.customer_accounts = CustomerAccounts(timeout=database.settings.customer_account_timeout)
        self.api.state.install_failures = {}
        self.api.state.install_shop = self._install_shop
        self._hardened = Hardened(self.api, largest_body=database.settings.request_max_body_bytes)
        self.health = Health(self._check, stop=self.api.state.stopping)
        # Starlette's own routes: they stay out of the OpenAPI document.
        self.api.router.routes[:0] = health_routes(self.health)

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI's callables
        """Answer one request."""
        if scope["type"] == "http" and scope["path"].startswith(PATH) and self._ingest is not None:
            await self._ingest(scope, receive, send)
        else:
            await self._hardened(scope, receive, send)

    async def _install_shop(self, app: App, said: SessionToken) -> int:
        installer: Installer = self.api.state.installer
        return await installer.install_from_session_token(app, said.shop_domain, said.token)

    async def figures(self) -> list[QueueFigures]:
        """Return what the queues hold."""
        pool: Pool = self.api.state.web_pool
        return await read_figures(pool)

    async def _check(self) -> None:
        pool: Pool = self.api.state.web_pool
        await check_schema(pool)

    @asynccontextmanager
    async def _lifespan(self, api: FastAPI) -> AsyncIterator[None]:
        settings = self._database.settings
        web_pool = await self._database.pool(
            Login.WEB, purpose="web", size=settings.web_pool_size, command_timeout=settings.statement_timeout
        )
        ingest_pool = await self._database.pool(
            Login.INGEST,
            purpose="web ingest",
            size=settings.ingest_pool_size,
            command_timeout=settings.webhook_deadline,
        )
        admin_pool = await self._database.pool(
            Login.ADMIN, purpose="web admin", size=settings.admin_pool_size, command_timeout=settings.statement_timeout
        )
        group_commit = GroupCommit(
            DeliveryStore(ingest_pool, self._registry).store,
            committers=settings.ingest_pool_size,
            batch_size=settings.webhook_commit_size,
            max_waiting=settings.webhook_waiting_deliveries,
            max_bytes=settings.webhook_waiting_bytes,
            deadline=settings.webhook_deadline,
        )
        group_commit.start()
        directory = AppDirectory(web_pool, self.vault)
        self._ingest = WebhookIngest(directory=directory, group_commit=group_commit, settings=settings)
        clients = AsyncExitStack()
        admin = await clients.enter_async_context(admin_client(of_web(web_pool), settings))
        api.state.offers = Offers(admin, self.vault, is_production=settings.environment == "production")
        api.state.limits = Limits(PlanRates(web_pool, settings))
        installer = Installer(pool=web_pool, vault=self.vault, endpoint=TokenEndpoint(), settings=settings)
        api.state.admin_pool = admin_pool
        api.state.web_pool = web_pool
        api.state.vault = self.vault
        api.state.apps = directory
        api.state.installer = installer
        api.state.token_verifier = TokenVerifier(web_pool, ttl=settings.customer_token_ttl)
        api.state.snapshots = Snapshots(web_pool, app=DEMO_APP, domain=DEMO_DOMAIN)
        try:
            yield
        finally:
            await group_commit.stop()
            await installer.close()
            await clients.aclose()
            await asyncio.gather(close_pool(web_pool), close_pool(ingest_pool), close_pool(admin_pool))


def _api(lifespan: Any) -> FastAPI:  # noqa: ANN401 - FastAPI's own type is private
    api = FastAPI(
        title="Sellflow API",
        version=__version__,
        description="What a store's own app shows its customers (mobile), what its merchant does in Shopify's admin "
        "(admin), and what other programs do (services).",
        lifespan=lifespan,
        docs_url=None,  # its page is fetched from elsewhere; nothing here needs the internet
        redoc_url=None,
        responses={},
    )
    answer_with_problems(api)
    api.include_router(mobile_api.router)
    api.include_router(imports_api.router)
    api.include_router(shopify_authorization.router)
    api.include_router(sessions_api.router)
    for router in admin_routes():
        api.include_router(router)
    api.include_router(page.router)
    api.router.routes.append(Mount("/status", page.static_files))
    _describe_problems(api)
    return api


def _describe_problems(api: FastAPI) -> None:
    """Put the problem schema into the OpenAPI document: routes refer to it, none returns it as its model."""
    generate = api.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas["ProblemDetails"] = ProblemDetails.model_json_schema()
        for path in document["paths"].values():
            for operation in path.values():
                # FastAPI promises 422 wherever there is input; here that is a 400 problem.
                promised = operation["responses"].get("422", {}).get("content", {})
                if "application/json" in promised:
                    del operation["responses"]["422"]
        schemas.pop("HTTPValidationError", None)
        schemas.pop("ValidationError", None)
        return document

    api.openapi = openapi  # type: ignore[method-assign]
