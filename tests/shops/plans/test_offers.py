"""Merchants who choose plans, against the simulated Shopify: its Billing API, and the page where they agree."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from sellflow.errors import SellflowError
from sellflow.postgres.database import Database, Pool, SessionConnection
from sellflow.queue.registry import Registry
from sellflow.shops.plans import billing_store, store
from sellflow.shops.plans.models import Plan, Source
from sellflow.shops.plans.offers import AlreadyPaidError, BillingError, NoBillingError, Offers
from sellflow.webhooks.store import Delivery, DeliveryStore
from tests.conftest import Tenant
from tests.queue.consuming import drain
from tests.shopify.simulated import SCHEMAS, SimulatedShopify
from tests.shops.plans.conftest import MoveIn, answered, holds, verified

pytestmark = [
    pytest.mark.conformance,
    pytest.mark.skipif(not SCHEMAS.exists(), reason="Shopify's schemas are not here: make install"),
]


async def created(shopify: SimulatedShopify, tenant: Tenant) -> int:
    """Return how many subscriptions Shopify has of the shop."""
    token = await shopify.permanent_token(tenant)
    query = "{ currentAppInstallation { allSubscriptions(first: 50) { nodes { id } } } }"
    found = await shopify.graphql(tenant.shop.domain, token, query)
    return len(found["currentAppInstallation"]["allSubscriptions"]["nodes"])


async def chosen(offers: Offers, tenant: Tenant, plan: Plan) -> str:
    url = (await offers.choose(tenant.shop_id, plan, by="merchant:1")).url
    assert url is not None
    return url


async def test_a_plan_is_had_when_the_merchant_agreed_and_not_before(
    *,
    database: Database,
    owner: SessionConnection,
    move_in: MoveIn,
    offers: Offers,
    plans: dict[str, Plan],
    tenant: Tenant,
) -> None:
    await move_in(tenant)
    url = await chosen(offers, tenant, plans["pro"])
    assert "0 plans changed" in await verified(database, owner)
    assert await holds(owner, tenant) == "free"
    back = await answered(url)
    assert "charge_id=" in back
    assert back.startswith("https://acme.myshopify.com/admin/apps/")
    await billing_store.ask_for_check(owner, [tenant.shop_id])
    assert await verified(database, owner) == "1 shops checked, 1 plans changed"
    (said,) = await store.history(owner, tenant.shop_id)
    assert (said.plan, said.source) == ("pro", Source.SUBSCRIPTION)
    assert said.trial_ends_at is not None
    with pytest.raises(AlreadyPaidError):
        await chosen(offers, tenant, plans["pro"])
    billing = await owner.fetchrow("SELECT status, is_test, subscription_name FROM shop_billing")
    assert tuple(billing or ()) == ("ACTIVE", True, "Pro")


async def test_asked_for_many_times_at_once_it_is_made_once(
    *, move_in: MoveIn, offers: Offers, shopify: SimulatedShopify, plans: dict[str, Plan], tenant: Tenant
) -> None:
    await move_in(tenant)
    answers = await asyncio.gather(
        *(offers.choose(tenant.shop_id, plans["pro"], by="merchant:1") for _ in range(6)), return_exceptions=True
    )
    urls = {answer.url for answer in answers if not isinstance(answer, BaseException)}
    assert len(urls) == 1
    assert all(answer.code == "shopify.still_open" for answer in answers if isinstance(answer, SellflowError))
    assert {await chosen(offers, tenant, plans["pro"])} == urls
    assert await created(shopify, tenant) == 1


async def test_a_process_that_died_before_it_wrote_the_page_down_is_succeeded_by_another(
    *,
    owner: SessionConnection,
    move_in: MoveIn,
    offers: Offers,
    shopify: SimulatedShopify,
    plans: dict[str, Plan],
    tenant: Tenant,
) -> None:
    await move_in(tenant)
    url = await chosen(offers, tenant, plans["pro"])
    await owner.execute("UPDATE plan_offers SET subscription_id = NULL, confirmation_url = NULL")
    assert await chosen(offers, tenant, plans["pro"]) == url
    assert await created(shopify, tenant) == 1


async def test_declined_it_changes_nothing_and_can_be_asked_for_again(
    *,
    database: Database,
    owner: SessionConnection,
    move_in: MoveIn,
    offers: Offers,
    plans: dict[str, Plan],
    tenant: Tenant,
) -> None:
    await move_in(tenant)
    url = await chosen(offers, tenant, plans["pro"])
    await answered(url, "decline")
    await verified(database, owner)
    assert await holds(owner, tenant) == "free"
    again = await chosen(offers, tenant, plans["pro"])
    assert again != url
    await answered(again)
    await billing_store.ask_for_check(owner, [tenant.shop_id])
    await verified(database, owner)
    assert await holds(owner, tenant) == "pro"


async def test_another_plan_takes_the_place_of_the_first_without_a_second_trial(
    *,
    database: Database,
    owner: SessionConnection,
    move_in: MoveIn,
    offers: Offers,
    plans: dict[str, Plan],
    tenant: Tenant,
) -> None:
    await move_in(tenant)
    for handle in ("pro", "max"):
        await answered(await chosen(offers, tenant, plans[handle]))
        await billing_store.ask_for_check(owner, [tenant.shop_id])
        await verified(database, owner)
        assert await holds(owner, tenant) == handle
    newest, eldest = await store.history(owner, tenant.shop_id)
    assert (newest.trial_ends_at, eldest.plan) == (None, "pro")


async def test_the_free_plan_ends_what_is_paid_after_the_grace_period(
    *,
    database: Database,
    owner: SessionConnection,
    move_in: MoveIn,
    offers: Offers,
    plans: dict[str, Plan],
    tenant: Tenant,
) -> None:
    await move_in(tenant)
    await answered(await chosen(offers, tenant, plans["pro"]))
    await verified(database, owner)
    for _ in range(2):
        assert (await offers.choose(tenant.shop_id, plans["free"], by="merchant:1")).url is None
    await billing_store.ask_for_check(owner, [tenant.shop_id])
    assert await verified(database, owner, plan_grace_days=7) == "1 shops checked, 1 plans changed"
    assert await holds(owner, tenant) == "pro"
    await owner.execute("UPDATE shop_plans SET effective_at = clock_timestamp() WHERE source = 'lapse'")
    assert await holds(owner, tenant) == "free"
    await answered(await chosen(offers, tenant, plans["pro"]))
    await billing_store.ask_for_check(owner, [tenant.shop_id])
    await verified(database, owner)
    assert await holds(owner, tenant) == "pro"


async def test_where_nobody_knows_what_became_of_it_we_look_and_offer_anew(
    *,
    owner: SessionConnection,
    move_in: MoveIn,
    offers: Offers,
    shopify: SimulatedShopify,
    plans: dict[str, Plan],
    tenant: Tenant,
) -> None:
    await move_in(tenant)
    await shopify.do(
        "POST",
        f"/shops/{tenant.shop.domain}/admin-api/faults",
        {"kind": "drop_after", "next": 1, "operation": "app_subscription_create"},
    )
    url = await chosen(offers, tenant, plans["pro"])
    assert await created(shopify, tenant) == 2, "the first is there, and nobody was shown its page"
    rows = await owner.fetch("SELECT closed_at IS NULL AS is_open, confirmation_url FROM plan_offers ORDER BY offer_id")
    assert [tuple(row) for row in rows] == [(False, None), (True, url)]


async def test_what_shopify_refuses_is_told_and_can_be_asked_for_again(
    *, owner: SessionConnection, move_in: MoveIn, offers: Offers, plans: dict[str, Plan], tenant: Tenant
) -> None:
    await move_in(tenant)
    # A name that only Shopify finds blank.
    await owner.execute("UPDATE plans SET name = ' ' WHERE handle = 'pro'")
    blank = await store.find_plan(owner, "pro")
    with pytest.raises(BillingError, match="Shopify refused the subscription: Name can't be blank"):
        await chosen(offers, tenant, blank)
    assert await owner.fetchval("SELECT count(*) FROM plan_offers WHERE closed_at IS NULL") == 0
    await owner.execute("UPDATE plans SET name = 'Pro' WHERE handle = 'pro'")
    assert await chosen(offers, tenant, plans["pro"])


async def test_custom_apps_do_not_bill_and_managed_ones_send_to_shopifys_page(
    *, move_in: MoveIn, offers: Offers, plans: dict[str, Plan], tenant: Tenant
) -> None:
    await move_in(tenant, "none")
    with pytest.raises(NoBillingError, match="whoever runs it sets the plan"):
        await chosen(offers, tenant, plans["pro"])
    await move_in(tenant, "managed")
    assert (
        await chosen(offers, tenant, plans["pro"]) == "https://admin.shopify.com/store/acme/charges/acme/pricing_plans"
    )


async def test_a_plan_without_a_price_that_is_not_the_default_is_not_for_sale(
    *, move_in: MoveIn, offers: Offers, plans: dict[str, Plan], tenant: Tenant
) -> None:
    await move_in(tenant)
    with pytest.raises(NoBillingError, match="Standard cannot be bought"):
        await chosen(offers, tenant, plans["standard"])


async def test_a_notice_makes_us_look_at_the_shop_it_came_for_whatever_it_says(
    *,
    database: Database,
    owner: SessionConnection,
    ingest_pool: Pool,
    worker_pool: Pool,
    registry: Registry,
    move_in: MoveIn,
    offers: Offers,
    plans: dict[str, Plan],
    tenant: Tenant,
    other_tenant: Tenant,
) -> None:
    await move_in(tenant)
    await move_in(other_tenant)
    url = await chosen(offers, tenant, plans["pro"])
    await verified(database, owner)
    await answered(url)
    number = await owner.fetchval("SELECT subscription_id FROM plan_offers")
    notice = {
        "app_subscription": {
            "admin_graphql_api_id": f"gid://shopify/AppSubscription/{number}",
            "name": "Max",
            "status": "ACTIVE",
            "admin_graphql_api_shop_id": "gid://shopify/Shop/1",
        }
    }
    deliveries = [
        Delivery(tenant.app.app_id, each.shop.domain, f"{each.shop.domain}-{n}", topic, "", None, body)
        for each in (other_tenant, tenant)
        for topic in ("shopify.app_subscriptions.update",)
        for n, body in enumerate((orjson.dumps(notice), b"no JSON at all", orjson.dumps(notice)))
    ]
    await DeliveryStore(ingest_pool, registry).store(deliveries)
    await drain(database, worker_pool, registry, "shops")
    assert await owner.fetchval("SELECT count(*) FROM dead_letters") == 0
    assert await verified(database, owner) == "2 shops checked, 1 plans changed"
    assert (await holds(owner, tenant), await holds(owner, other_tenant)) == ("pro", "free")


async def test_who_asks_while_shopify_is_being_asked_is_answered_by_another_look(
    database: Database, owner: SessionConnection, move_in: MoveIn, tenant: Tenant
) -> None:
    await move_in(tenant)
    await verified(database, owner)
    assert await verified(database, owner) == "no shop is to be checked"
    begun = await store.clock(owner)
    await billing_store.ask_for_check(owner, [tenant.shop_id])
    await billing_store.note_check(owner, tenant.shop_id, None, begun=begun, every=3600, complaint="")
    assert await billing_store.due_checks(owner, limit=10) == [tenant.shop_id]


async def test_one_shops_trouble_is_no_others_and_is_tried_again_later(
    *,
    database: Database,
    owner: SessionConnection,
    move_in: MoveIn,
    shopify: SimulatedShopify,
    tenant: Tenant,
    other_tenant: Tenant,
) -> None:
    await move_in(tenant)
    await move_in(other_tenant)
    await owner.execute("DELETE FROM access_tokens WHERE shop_id = $1", tenant.shop_id)
    assert await verified(database, owner) == "2 shops checked, 0 plans changed"
    rows = await owner.fetch("SELECT shop_id, failures, last_error FROM shop_billing WHERE failures > 0")
    assert [(row["shop_id"], row["failures"]) for row in rows] == [(tenant.shop_id, 1)]
    assert "shopify.not_installed" in rows[0]["last_error"]
    assert await verified(database, owner) == "no shop is to be checked"


async def test_an_operators_word_outlasts_what_shopify_says_until_it_is_released(
    *,
    database: Database,
    owner: SessionConnection,
    move_in: MoveIn,
    offers: Offers,
    plans: dict[str, Plan],
    tenant: Tenant,
) -> None:
    await move_in(tenant)
    await store.set_by_operator(owner, tenant.shop_id, "max", by="ann")
    await answered(await chosen(offers, tenant, plans["pro"]))
    assert "0 plans changed" in await verified(database, owner)
    assert await holds(owner, tenant) == "max"
    assert await store.release(owner, tenant.shop_id, by="ann")
    assert not await store.release(owner, tenant.shop_id, by="ann")
    await billing_store.ask_for_check(owner, [tenant.shop_id])
    await verified(database, owner)
    assert await holds(owner, tenant) == "pro"
