"""The simulator as one object: its memory, its sender, its runs, and an outbox per shop for single calls."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path

from sellflow.errors import NotFoundError
from sellflow.simulator.accounts.sessions import Accounts
from sellflow.simulator.backend import Shopify
from sellflow.simulator.errors import RefusedError
from sellflow.simulator.graphql.service import AdminApi
from sellflow.simulator.models import App, Shop
from sellflow.simulator.notices import Notice
from sellflow.simulator.oauth.service import OAuth
from sellflow.simulator.oauth.trouble import Trouble
from sellflow.simulator.outbox import Outbox
from sellflow.simulator.runs import Run
from sellflow.simulator.schemas import Faults, RunPlan, ShopInput
from sellflow.simulator.sender import TOTAL_SECONDS, Receiver, Sender

SCHEMA_DIR = Path(".cache/shopify-schemas")
SHOP_DOMAIN = re.compile(r"[a-z0-9][a-z0-9-]*\.myshopify\.com")


class Simulator:
    """Everything that a simulator process holds.

    Parameters
    ----------
    concurrency
        Most requests under way at a time, over all shops and runs.
    total_seconds
        For how long a request may take; Shopify's five seconds, unless a test has less patience.
    now
        Tells the age of tokens and codes, and fills buckets; the present, unless a test lets time pass.
    schema_dir
        The folder of Shopify's GraphQL schemas.
    """

    def __init__(
        self,
        *,
        concurrency: int = 16,
        total_seconds: float = TOTAL_SECONDS,
        now: Callable[[], datetime] | None = None,
        schema_dir: Path = SCHEMA_DIR,
    ) -> None:
        self.shopify = Shopify()
        self.oauth = OAuth(self.shopify.ids, now or self.shopify.now)
        self.accounts = Accounts(self.oauth.now)
        self.trouble = Trouble()
        self.schema_dir = schema_dir
        self.admin = AdminApi(self.shopify, now or self.shopify.now, self._tell, schema_dir)
        self.runs: dict[str, Run] = {}
        self._sender = Sender(concurrency=concurrency, total_seconds=total_seconds)
        self._outboxes: dict[str, Outbox] = {}
        self._rngs: dict[str, random.Random] = {}
        self._standing: dict[str, Faults] = {}

    async def close(self) -> None:
        """Cancel what is under way and close the connections."""
        await self.admin.close()
        for run in self.runs.values():
            await run.cancel()
        for outbox in self._outboxes.values():
            await outbox.cancel()
        await self._sender.close()

    def register(self, domain: str, wanted: ShopInput) -> Shop:
        """Register a shop, or change where its webhooks go.

        Raises
        ------
        RefusedError
            If the domain is not a shop's, or its currency is unknown or not the one it has.
        """
        if not SHOP_DOMAIN.fullmatch(domain):
            raise RefusedError(f"{domain!r} does not look like demo-shop.myshopify.com")
        seed = domain if wanted.seed is None else wanted.seed
        shop = self.shopify.register(
            domain,
            wanted.currency,
            App(str(wanted.webhook_url), wanted.client_secret, wanted.api_version, wanted.headers),
            products=wanted.products,
            customers=wanted.customers,
            seed=seed,
        )
        if domain not in self._outboxes:
            receiver = Receiver(lambda: self.shopify.shop(domain).app, wanted.time_compression)
            faults = random.Random(f"{seed} faults")
            self._outboxes[domain] = Outbox(self._sender, receiver, domain, faults)
            self._rngs[domain] = random.Random(f"{seed} single calls")
        return shop

    def outbox(self, domain: str) -> Outbox:
        """Return what single calls made a shop send.

        Raises
        ------
        NotFoundError
            If there is no such shop.
        """
        self.shopify.shop(domain)
        return self._outboxes[domain]

    def rng(self, domain: str) -> random.Random:
        """Return what decides the things that single calls leave open.

        Raises
        ------
        NotFoundError
            If there is no such shop.
        """
        self.shopify.shop(domain)
        return self._rngs[domain]

    async def post(self, domain: str, notices: Iterable[Notice], faults: Faults) -> None:
        """Send what a single call caused, reordered within itself if its faults say so."""
        outbox = self.outbox(domain)
        await outbox.post(notices, self._faults(domain, faults))
        await outbox.flush()

    def stand_faults(self, domain: str, faults: Faults) -> None:
        """Let these faults befall the webhooks of all calls and runs to come that name none themselves.

        Raises
        ------
        NotFoundError
            If there is no such shop.
        """
        self.shopify.shop(domain)
        self._standing[domain] = faults

    def _faults(self, domain: str, named: Faults) -> Faults:
        return self._standing.get(domain, named) if named == Faults() else named

    async def _tell(self, domain: str, notices: Iterable[Notice]) -> None:
        """Send what an Admin API call caused."""
        await self.post(domain, notices, Faults())

    def start_run(self, domain: str, plan: RunPlan) -> Run:
        """Start a run.

        Raises
        ------
        NotFoundError
            If there is no such shop.
        """
        self.shopify.shop(domain)
        plan = plan.model_copy(update={"faults": self._faults(domain, plan.faults)})
        run = Run(f"run-{self.shopify.ids()}", self.shopify, self._sender, domain, plan)
        self.runs[run.id] = run
        return run

    def run(self, run_id: str) -> Run:
        """Return a run.

        Raises
        ------
        NotFoundError
            If there is none of that name.
        """
        if run_id not in self.runs:
            raise NotFoundError(f"no run {run_id}: a restart forgets them")
        return self.runs[run_id]
