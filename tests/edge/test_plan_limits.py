"""What a shop's plan allows: rates that change within seconds, features, and room for endpoints."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import httpx
import pytest

from sellflow.edge import plan_limits
from sellflow.edge.limits import Kind, Limits
from sellflow.edge.plan_limits import KEPT_SECONDS, PlanRates, require_feature
from sellflow.edge.problems import Problem
from sellflow.postgres.database import Database, Login, Pool, SessionConnection, close_pool
from sellflow.postgres.transactions import admin_transaction, shop_transaction
from sellflow.shops.plans import store
from sellflow.shops.plans.definitions import apply_plans, changed_spec, read_plans
from tests.conftest import Tenant
from tests.edge.callers import merchant, service
from tests.edge.serving import serving, with_settings

PLANS = """
[plans.small]
name = "Small"
price = 9
currency = "USD"
limits = { mobile_requests_per_second = 3, merchant_requests_per_second = 0.5, endpoints = 1 }

[plans.large]
name = "Large"
price = 99
currency = "USD"
features = ["segments"]
"""


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
async def plans(owner: SessionConnection) -> None:
    await apply_plans(owner, read_plans(PLANS))


async def test_a_plans_rate_counts_and_the_settings_where_it_has_none(
    database: Database, owner: SessionConnection, web_pool: Pool, tenant: Tenant, other_tenant: Tenant
) -> None:
    await store.set_by_operator(owner, tenant.shop_id, "small", by="ann")
    rates = PlanRates(web_pool, database.settings)
    settings = database.settings
    assert await rates(Kind.MOBILE, tenant.shop_id) == 3
    assert await rates(Kind.MERCHANT, tenant.shop_id) == 0.5
    assert await rates(Kind.SERVICE, tenant.shop_id) == settings.service_requests_per_second
    assert await rates(Kind.MOBILE, other_tenant.shop_id) == settings.mobile_requests_per_second
    assert await rates(Kind.SERVICE, None) == settings.service_requests_per_second


async def test_another_plan_or_another_limit_holds_in_every_process_within_seconds(
    database: Database, owner: SessionConnection, web_pool: Pool, tenant: Tenant
) -> None:
    clock = Clock()
    processes = [PlanRates(web_pool, database.settings, clock=clock) for _ in range(2)]
    await store.set_by_operator(owner, tenant.shop_id, "small", by="ann")
    assert [await each(Kind.MOBILE, tenant.shop_id) for each in processes] == [3, 3]
    small = await store.find_plan(owner, "small")
    await apply_plans(owner, {"small": changed_spec(small, limits={"mobile_requests_per_second": 4})})
    assert [await each(Kind.MOBILE, tenant.shop_id) for each in processes] == [3, 3], "kept for a moment"
    clock.now += KEPT_SECONDS
    assert [await each(Kind.MOBILE, tenant.shop_id) for each in processes] == [4, 4]
    await store.release(owner, tenant.shop_id, by="ann")
    clock.now += KEPT_SECONDS
    usual = database.settings.mobile_requests_per_second
    assert [await each(Kind.MOBILE, tenant.shop_id) for each in processes] == [usual, usual]


async def test_of_requests_that_come_at_once_one_asks(
    database: Database, owner: SessionConnection, tenant: Tenant
) -> None:
    pool = await database.pool(Login.WEB, purpose="test", size=1)
    rates = PlanRates(pool, database.settings)
    async with pool.acquire():
        waiting = [asyncio.create_task(rates(Kind.MOBILE, tenant.shop_id)) for _ in range(50)]
        await asyncio.sleep(0)
        waiting[0].cancel()
    assert len(set(await asyncio.gather(*waiting[1:]))) == 1
    await close_pool(pool)


async def test_without_the_database_the_last_known_plan_counts_and_else_the_settings(
    database: Database, owner: SessionConnection, tenant: Tenant, other_tenant: Tenant
) -> None:
    await store.set_by_operator(owner, tenant.shop_id, "small", by="ann")
    clock, pool = Clock(), await database.pool(Login.WEB, purpose="test", size=1)
    rates = PlanRates(pool, database.settings, clock=clock)
    assert await rates(Kind.MOBILE, tenant.shop_id) == 3
    await close_pool(pool)
    clock.now += KEPT_SECONDS
    assert await rates(Kind.MOBILE, tenant.shop_id) == 3
    assert await rates(Kind.MOBILE, other_tenant.shop_id) == database.settings.mobile_requests_per_second


async def test_plans_are_forgotten_before_they_fill_the_memory(
    database: Database,
    web_pool: Pool,
    tenant: Tenant,
    other_tenant: Tenant,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plan_limits, "MOST_KEPT", 1)
    rates = PlanRates(web_pool, database.settings)
    for each in (tenant, other_tenant):
        await rates(Kind.MOBILE, each.shop_id)
    assert list(rates._kept) == [other_tenant.shop_id]


async def test_a_caller_over_the_plans_limit_is_told_so(
    database: Database, owner: SessionConnection, tenant: Tenant, other_tenant: Tenant
) -> None:
    await store.set_by_operator(owner, tenant.shop_id, "small", by="ann")
    async with serving(database) as client:
        assert (await client.get("/admin/api/session", headers=merchant(tenant))).status_code == 200
        refused = await client.get("/admin/api/session", headers=merchant(tenant))
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "2")
        assert refused.headers["ratelimit-policy"] == '"merchant";q=1;w=2'
        assert refused.headers["ratelimit"] == '"merchant";r=0;t=2'
        for _ in range(3):
            found = await client.get("/admin/api/session", headers=merchant(other_tenant))
            assert found.status_code == 200


async def test_the_fields_of_a_refusal_say_when_the_quota_is_whole_again() -> None:
    async def rate_of(_kind: Kind, _shop_id: int | None) -> float:
        return 10.0

    limits = Limits(rate_of, clock=Clock())
    for _ in range(20):
        await limits.take(Kind.MOBILE, 1)
    with pytest.raises(Problem) as refused:
        await limits.take(Kind.MOBILE, 1)
    assert dict(refused.value.headers) == {
        "retry-after": "1",
        "ratelimit-policy": '"mobile";q=20;w=2',
        "ratelimit": '"mobile";r=0;t=1',
    }


async def test_a_feature_is_refused_with_the_plans_that_have_it(
    owner: SessionConnection, web_pool: Pool, tenant: Tenant
) -> None:
    async with shop_transaction(web_pool, tenant.shop_id) as connection:
        await require_feature(connection, tenant.shop_id, "segments")
    await store.set_by_operator(owner, tenant.shop_id, "small", by="ann")
    async with shop_transaction(web_pool, tenant.shop_id) as connection:
        for feature, where in (("segments", "Standard or Large"), ("unheard-of", "Standard")):
            with pytest.raises(Problem) as refused:
                await require_feature(connection, tenant.shop_id, feature)
            assert (refused.value.status, refused.value.code) == (403, "plan.feature_missing")
            assert f"it comes with {where}." in refused.value.detail


async def test_one_shops_plan_is_nothing_to_another(
    owner: SessionConnection, web_pool: Pool, admin_pool: Pool, tenant: Tenant, other_tenant: Tenant
) -> None:
    await store.set_by_operator(owner, tenant.shop_id, "small", by="ann")
    async with shop_transaction(web_pool, other_tenant.shop_id) as connection:
        assert await store.last_assignment(connection, tenant.shop_id) is None
    async with admin_transaction(admin_pool, other_tenant.shop_id) as connection:
        assert await store.history(connection, tenant.shop_id) == []


async def add(client: httpx.AsyncClient, headers: dict[str, str], n: int, **more: object) -> httpx.Response:
    path = "/v1/endpoints" if more else "/admin/api/endpoints"
    body = {"address": f"https://8.8.8.8/{n}", "topics": ["shopify.orders.paid"], **more}
    return await client.post(path, headers=headers, json=body)


async def test_endpoints_beyond_the_plan_are_refused_also_when_they_come_at_once(
    database: Database, owner: SessionConnection, tenant: Tenant
) -> None:
    fast = changed_spec(await store.find_plan(owner, "small"), limits={"merchant_requests_per_second": None})
    await apply_plans(owner, {"small": fast})
    await store.set_by_operator(owner, tenant.shop_id, "small", by="ann")
    headers = merchant(tenant)
    async with serving(with_settings(database, outgoing_private_networks="")) as client:
        answers = await asyncio.gather(*(add(client, headers, n) for n in range(5)))
        assert sorted(each.status_code for each in answers) == [201] + [403] * 4
        refused = next(each for each in answers if each.status_code == 403).json()
        assert refused["code"] == "plan.limit_reached"
        assert "room for 1 endpoints: remove one or choose Standard or Large." in refused["detail"]
        by_service = await add(client, await service(owner, "endpoints:write"), 9, shop=tenant.shop.domain)
        assert by_service.status_code == 403
        (kept,) = [each for each in answers if each.status_code == 201]
        await client.delete(f"/admin/api/endpoints/{kept.json()['id']}", headers=headers)
        assert (await add(client, headers, 7)).status_code == 201
        # A smaller plan takes nothing away.
        none = changed_spec(await store.find_plan(owner, "small"), limits={"endpoints": 0})
        await apply_plans(owner, {"small": none})
        assert len((await client.get("/admin/api/endpoints", headers=headers)).json()["items"]) == 1
