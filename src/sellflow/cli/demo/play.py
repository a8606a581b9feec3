"""Plays the demo: orders, duplicates, refunds, reordering and killed workers; then waits until all is handled."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

import httpx

from sellflow.cli.demo.check import Verdict, compare
from sellflow.cli.demo.victim import victims
from sellflow.cli.store import register_demo_store
from sellflow.demo_shop import DEMO_DOMAIN
from sellflow.edge.customer_tokens import CustomerSession, issue_token
from sellflow.errors import SellflowError
from sellflow.postgres.database import Database, Login, SessionConnection
from sellflow.secrets import build_vault
from sellflow.settings import Settings
from sellflow.shops.store import find_shop
from sellflow.simulator import client
from sellflow.simulator.schemas import Faults, FinalOrder, Mix, RunPlan, RunStatus

HANDLED_TIMEOUT = 90.0
CUSTOMERS_ASKED = 25  # by the mobile API, beside the ledger that is read whole

Progress = Callable[[str, int, int], None]


class NotHandledError(SellflowError):
    """Events of the demo are still unhandled: nobody serves their queue."""

    code = "demo.not_handled"


class ApiDisagreesError(SellflowError):
    """The mobile API shows another balance than the ledger holds."""

    code = "demo.api_disagrees"


@dataclass(frozen=True)
class Played:
    """What the demo did and found."""

    status: RunStatus
    verdict: Verdict
    kills: int
    claims_held: int
    customers_asked: int
    seconds: float


def plan(orders: int) -> RunPlan:
    """Return what is played: a busy minute of a shop, with everything that goes wrong on the way to it."""
    return RunPlan(
        count=orders,
        rate=80,
        mix=Mix(partial_refund=0.25, full_refund=0.05, cancel=0.05, edit=0.05, customer_later=0.1),
        faults=Faults(duplicate=0.15, delay=0.1, delay_seconds=1.5, reorder=0.25, reorder_window=15),
        time_compression=1000,
    )


async def play(database: Database, *, orders: int, kills: int, on_progress: Progress) -> Played:
    """Play the demo against running roles.

    Raises
    ------
    NotHandledError
        If events are left when everything should long be done.
    ApiDisagreesError
        If the mobile API and the ledger disagree.
    """
    started = time.monotonic()
    settings = database.settings
    await register_demo_store(settings)
    connection = await database.connect(Login.OWNER, purpose="demo")
    try:
        shop = await find_shop(connection, DEMO_DOMAIN)
        rate = await _points_per_unit(connection, shop.shop_id)
        async with victims(kills) as doomed, asyncio.TaskGroup() as tasks:
            selling = tasks.create_task(_sell(settings, orders, on_progress))
            held = [await victim.kill_while_claiming(connection, shop.shop_id) for victim in doomed]
        on_progress("workers killed holding claims", len(held), kills)
        status = selling.result()
        webhooks = await client.sent(settings.simulator_url, status.run_id)
        await _wait_until_handled(connection, [webhook.webhook_id for webhook in webhooks], on_progress)
        final = await client.final_orders(settings.simulator_url, status.run_id)
        verdict = await compare(connection, shop.shop_id, orders=final, webhooks=webhooks, points_per_unit=rate)
        asked = await _ask_mobile_api(connection, settings, shop.shop_id, final)
    finally:
        await connection.close()
    return Played(status, verdict, len(held), sum(held), asked, time.monotonic() - started)


async def _sell(settings: Settings, orders: int, on_progress: Progress) -> RunStatus:
    def show(status: RunStatus) -> None:
        on_progress("orders placed", status.orders, orders)
        on_progress("webhooks acknowledged", status.webhooks.acknowledged, status.webhooks.meant)

    return await client.play_run(settings.simulator_url, DEMO_DOMAIN, plan(orders), show)


async def _points_per_unit(connection: SessionConnection, shop_id: int) -> Decimal:
    rate: Decimal = await connection.fetchval(
        """
        SELECT (document #>> '{rules,0,points_per_unit}')::numeric FROM programs
        WHERE shop_id = $1 ORDER BY version DESC LIMIT 1
        """,
        shop_id,
    )
    return rate


async def _wait_until_handled(connection: SessionConnection, webhook_ids: list[str], on_progress: Progress) -> None:
    """Wait until every stored webhook has its outcome; what the victims held comes back when their claims run out."""
    deadline = time.monotonic() + HANDLED_TIMEOUT
    while True:
        row = await connection.fetchrow(
            """
            SELECT count(*) AS stored, count(o.event_id) AS handled
            FROM events e LEFT JOIN outcomes o ON o.day = e.day AND o.event_id = e.event_id AND o.queue = 'loyalty'
            WHERE e.webhook_id = ANY ($1::text[]) AND e.day >= (now() AT TIME ZONE 'UTC')::date - 1
            """,
            webhook_ids,
        )
        assert row is not None
        on_progress("events handled", row["handled"], row["stored"])
        if row["handled"] == row["stored"]:
            return
        if time.monotonic() > deadline:
            raise NotHandledError(
                f"{row['stored'] - row['handled']} events wait after {HANDLED_TIMEOUT:.0f} s: does a worker run?"
            )
        await asyncio.sleep(0.2)


async def _ask_mobile_api(
    connection: SessionConnection, settings: Settings, shop_id: int, orders: list[FinalOrder]
) -> int:
    """Ask the mobile API for the balances of some customers and compare them with their ledger entries."""
    vault = build_vault(settings)
    customers = sorted({order.customer_id for order in orders if order.customer_id})[:CUSTOMERS_ASKED]
    async with httpx.AsyncClient(base_url=settings.web_url, trust_env=False) as http:
        for customer_id in customers:
            token = await issue_token(connection, vault, CustomerSession(shop_id, customer_id), ttl=60)
            answer = await http.get("/v1/loyalty", headers={"authorization": f"Bearer {token}"})
            ledger = await connection.fetchval(
                """
                SELECT COALESCE(sum(e.points), 0)::bigint
                FROM accounts a JOIN entries e ON e.account_id = a.account_id
                WHERE a.shop_id = $1 AND a.kind = 'customer' AND a.customer_id = $2
                """,
                shop_id,
                customer_id,
            )
            if answer.status_code != httpx.codes.OK or answer.json()["balance"] != ledger:
                raise ApiDisagreesError(
                    f"customer {customer_id}: the ledger holds {ledger}, the mobile API answered {answer.text}"
                )
    return len(customers)
