"""What Shopify says of a shop's subscriptions, and what that makes of its plan.

Nothing that a browser or a webhook brings is believed: they make us look, with the shop's own token, so that what is
read is about this app in this shop whatever number stood in an address.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from sellflow.errors import SellflowError
from sellflow.postgres.database import Connection, SessionConnection
from sellflow.postgres.transactions import Transactions, of_session
from sellflow.queue.jobs import Job
from sellflow.settings import Settings
from sellflow.shopify.admin.client import AdminClient
from sellflow.shopify.admin.opening import admin_client
from sellflow.shopify.admin.throttle import Urgency
from sellflow.shopify.documents.installation import APP_SUBSCRIPTIONS, PricedSubscription
from sellflow.shops.plans import billing_store, rules, store
from sellflow.shops.plans.models import Subscription

log = structlog.get_logger(__name__)

#: Seconds after which a shop is looked at although nothing was heard of it: webhooks may never come.
CHECK_EVERY = 86_400.0
AT_A_TIME = 8
AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Truth:
    """A shop's subscriptions to the app, and where the merchant finds the app."""

    subscriptions: tuple[Subscription, ...]
    launch_url: str


async def read_truth(client: AdminClient, shop_id: int, *, urgency: Urgency = Urgency.BACKGROUND) -> Truth:
    """Ask Shopify.

    Raises
    ------
    AdminError
        If there is no answer.
    NotInstalledError
        If the shop removed the app.
    """
    found = (await client.fetch(shop_id, APP_SUBSCRIPTIONS, urgency=urgency)).current_app_installation
    known = {each.id: each for each in (*found.all_subscriptions.nodes, *found.active_subscriptions)}
    return Truth(tuple(_subscription(each) for each in known.values()), found.launch_url)


def _subscription(found: PricedSubscription) -> Subscription:
    handles = (line.plan.pricing_details.plan_handle for line in found.line_items)
    return Subscription(
        number=found.number,
        name=found.name,
        status=found.status,
        is_test=found.test,
        trial_days=found.trial_days,
        created_at=found.created_at,
        current_period_end=found.current_period_end,
        plan_handle=next((handle for handle in handles if handle), None),
    )


def verify_plans(settings: Settings) -> Job:
    """Return the job that makes shops' plans what their subscriptions say: it alone gives plans but for operators."""

    async def run(connection: SessionConnection) -> str:
        await billing_store.add_new_shops(connection)
        due = await billing_store.due_checks(connection, limit=AT_ONCE)
        if not due:
            return "no shop is to be checked"
        transactions, room = of_session(connection), asyncio.Semaphore(AT_A_TIME)
        grace = timedelta(days=settings.plan_grace_days)
        async with admin_client(transactions, settings) as client:

            async def check(shop_id: int) -> bool:
                async with room:
                    return await _check(transactions, client, shop_id, grace)

            changed = await asyncio.gather(*(check(shop_id) for shop_id in due))
        return f"{len(due)} shops checked, {sum(changed)} plans changed"

    return Job("verify_plans", 5, run, timeout=240.0)


async def _check(transactions: Transactions, client: AdminClient, shop_id: int, grace: timedelta) -> bool:
    """Check one shop; what stands in its way is that shop's alone, and written down with it."""
    async with transactions(shop_id) as connection:
        begun = await store.clock(connection)
    try:
        truth = await read_truth(client, shop_id)
    except SellflowError as error:
        async with transactions(shop_id) as connection:
            failures = await billing_store.failures_of(connection, shop_id) + 1
            pause = rules.pause_after(failures)
            said = f"{error.code}: {error}"
            await billing_store.note_failure(connection, shop_id, error=said, failures=failures, pause=pause)
        log.info("plans.not_checked", shop_id=shop_id, code=error.code, error=str(error))
        return False
    async with transactions(shop_id) as connection:
        return await _apply(connection, shop_id, truth, begun, grace)


async def _apply(connection: Connection, shop_id: int, truth: Truth, begun: datetime, grace: timedelta) -> bool:
    await store.lock_assignments(connection, shop_id)
    last = await store.last_assignment(connection, shop_id)
    plans, now = await store.list_plans(connection), await store.clock(connection)
    decision = rules.decide(truth.subscriptions, plans, last=last, now=now, grace=grace)
    if decision.complaint:
        log.warning("plans.unknown_subscription", shop_id=shop_id, complaint=decision.complaint)
    if decision.assignment is not None:
        await store.assign(connection, shop_id, decision.assignment)
        log.info("plans.assigned", shop_id=shop_id, plan=decision.assignment.plan, source=decision.assignment.source)
    found = rules.counting(truth.subscriptions, last)
    await billing_store.note_check(
        connection, shop_id, found, begun=begun, every=CHECK_EVERY, complaint=decision.complaint
    )
    return decision.assignment is not None
