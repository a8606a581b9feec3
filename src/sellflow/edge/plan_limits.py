"""What a shop's plan allows: rates, features and counts, and the answers where it does not.

Rates are looked up for every request, so they are kept for a moment in this process; a plan that changes holds
everywhere within `KEPT_SECONDS`. Webhooks are taken whatever the plan says.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import asyncpg
import structlog

from sellflow.edge.limits import Kind, RateOf, settings_rates
from sellflow.edge.problems import Problem
from sellflow.errors import DatabaseUnavailableError
from sellflow.postgres.database import UNAVAILABLE, Connection, Pool
from sellflow.postgres.transactions import shop_transaction
from sellflow.settings import Settings
from sellflow.shops.plans.models import Plan
from sellflow.shops.plans.store import list_plans, plan_of_shop, plans_with

log = structlog.get_logger(__name__)

#: Seconds for which a shop's plan is believed, and how many shops' at a time.
KEPT_SECONDS = 2.0
MOST_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class _Kept:
    plan: Plan
    until: float


class PlanRates:
    """The rates of shops' plans, and those of the settings where a plan has none or cannot be had."""

    def __init__(self, pool: Pool, settings: Settings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._pool = pool
        self._fallback: RateOf = settings_rates(settings)
        self._clock = clock
        self._kept: dict[int, _Kept] = {}
        self._under_way: dict[int, asyncio.Task[Plan]] = {}

    async def __call__(self, kind: Kind, shop_id: int | None) -> float:
        """Return the requests a second that a kind of caller may make for a shop; 0 is no limit."""
        usual = await self._fallback(kind, shop_id)
        plan = None if shop_id is None else await self._plan(shop_id)
        rate: float | None = None if plan is None else getattr(plan, f"{kind.value}_requests_per_second")
        return usual if rate is None else rate

    async def _plan(self, shop_id: int) -> Plan | None:
        """Return a shop's plan. Of requests that come at once one asks; where the database is away, the last known."""
        kept = self._kept.get(shop_id)
        if kept is not None and self._clock() < kept.until:
            return kept.plan
        try:
            # One that goes away must not take the answer from those that wait for it.
            return await asyncio.shield(self._asked(shop_id))
        except (DatabaseUnavailableError, asyncpg.PostgresError, *UNAVAILABLE) as error:
            log.warning("plans.not_found", shop_id=shop_id, error=str(error))
            return None if kept is None else kept.plan

    def _asked(self, shop_id: int) -> asyncio.Task[Plan]:
        found = self._under_way.get(shop_id)
        if found is None:
            found = self._under_way[shop_id] = asyncio.create_task(self._ask(shop_id))
        return found

    async def _ask(self, shop_id: int) -> Plan:
        try:
            async with shop_transaction(self._pool, shop_id) as connection:
                plan = await plan_of_shop(connection, shop_id)
        finally:
            del self._under_way[shop_id]
        if len(self._kept) >= MOST_KEPT:
            self._kept.clear()
        self._kept[shop_id] = _Kept(plan, self._clock() + KEPT_SECONDS)
        return plan


async def require_feature(connection: Connection, shop_id: int, feature: str) -> None:
    """Let a shop go on whose plan opens a feature.

    Raises
    ------
    Problem
        403 for any other, naming the plans that do.
    """
    plan = await plan_of_shop(connection, shop_id)
    if plan.has(feature):
        return
    names = await plans_with(connection, feature)
    where = f"it comes with {_either(names)}" if names else "no plan on offer has it"
    raise Problem(403, "plan.feature_missing", f"The plan {plan.name} does not have {feature}: {where}.")


async def require_room_for_endpoint(connection: Connection, shop_id: int) -> None:
    """Let a shop add one more endpoint in the caller's transaction, if its plan has room for it.

    Those that there are stay, whatever plan the shop comes to have.

    Raises
    ------
    Problem
        403 where it has not, naming the plans that do.
    """
    # Of two that are added at once, the second counts the first.
    await connection.execute("SELECT pg_advisory_xact_lock(hashtext('sellflow.plan_endpoints'), hashint8($1))", shop_id)
    plan = await plan_of_shop(connection, shop_id)
    if plan.endpoints is None:
        return
    used: int = await connection.fetchval(
        "SELECT count(*) FROM endpoints WHERE shop_id = $1 AND state <> 'removed'", shop_id
    )
    if used < plan.endpoints:
        return
    larger = [
        each.name
        for each in await list_plans(connection, archived=False)
        if each.endpoints is None or each.endpoints > used
    ]
    where = f" or choose {_either(larger)}" if larger else ""
    detail = f"The plan {plan.name} has room for {plan.endpoints} endpoints: remove one{where}."
    raise Problem(403, "plan.limit_reached", detail)


def _either(names: Sequence[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last
