"""Plans as they are written down."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest

from sellflow.errors import ConfigurationError
from sellflow.postgres.database import Database, Login, SessionConnection
from sellflow.shops.plans import store
from sellflow.shops.plans.definitions import apply_plans, changed_spec, changes, read_plans
from sellflow.shops.plans.models import Plan
from tests.conftest import Tenant
from tests.shops.plans.conftest import PLANS, holds


async def test_an_installation_begins_with_one_plan_that_limits_nothing(
    owner: SessionConnection, tenant: Tenant
) -> None:
    plan = await store.plan_of_shop(owner, tenant.shop_id)
    assert (plan.handle, plan.has("anything"), plan.endpoints, plan.orders_per_month) == ("standard", True, None, None)


async def test_a_file_is_applied_once_and_then_changes_nothing(
    owner: SessionConnection, plans: dict[str, Plan], tenant: Tenant
) -> None:
    assert plans["pro"].price == Decimal("29.00")
    assert (plans["pro"].billing_interval, plans["max"].billing_interval) == ("EVERY_30_DAYS", "ANNUAL")
    assert await apply_plans(owner, read_plans(PLANS)) == {}
    assert await holds(owner, tenant) == "free"
    dearer = read_plans(PLANS.replace("29.00", "39.50"))
    assert changes(plans, dearer) == {"pro": {"price": (Decimal("29.00"), Decimal("39.50"))}}


async def test_what_an_operator_changes_is_that_alone(owner: SessionConnection, plans: dict[str, Plan]) -> None:
    found = await apply_plans(owner, {"pro": changed_spec(plans["pro"], limits={"endpoints": "7"})})
    assert found == {"pro": {"endpoints": (1, 7)}}
    found = await apply_plans(owner, {"pro": changed_spec(await store.find_plan(owner, "pro"), trial_days=None or 0)})
    assert found == {"pro": {"trial_days": (14, 0)}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[plans", "no TOML"),
        ("[plan.x]\nname = 'x'", "Extra inputs"),
        ("[plans.x]", "name: Field required"),
        ("[plans.X]\nname = 'x'", "plans.X"),
        ("[plans.x]\nname = 'x'\nprice = 0\ncurrency = 'USD'", "greater than 0"),
        ("[plans.x]\nname = 'x'\nprice = 9", "price and currency go together"),
        ("[plans.x]\nname = 'x'\nprice = 9.999\ncurrency = 'USD'", "2 decimal places"),
        ("[plans.x]\nname = 'x'\nprice = nan\ncurrency = 'USD'", "finite"),
        ("[plans.x]\nname = 'x'\nprice = 9\ncurrency = 'USD'\nis_default = true", "default plan costs nothing"),
        ("[plans.x]\nname = 'x'\nlimits = { endpoints = -1 }", "greater than or equal to 0"),
        ("[plans.x]\nname = 'x'\nlimits = { endpoint = 1 }", "Extra inputs"),
        ("[plans.x]\nname = 'x'\nfeatures = ['a b']", "features.0"),
    ],
)
def test_what_is_no_plan_is_refused_by_name(text: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        read_plans(text)


async def test_there_is_always_one_default(owner: SessionConnection, plans: dict[str, Plan]) -> None:
    with pytest.raises(ConfigurationError, match="no plan would be the default"):
        await apply_plans(owner, {"free": changed_spec(plans["free"], is_default=False)})
    with pytest.raises(ConfigurationError, match="default plan"):
        await store.archive_plan(owner, "free")
    both = read_plans(PLANS.replace("position = 9", "is_default = true"))
    with pytest.raises(ConfigurationError, match="one plan is the default, not free, standard"):
        await apply_plans(owner, both)
    with pytest.raises(ConfigurationError, match="another one has its name"):
        await apply_plans(owner, {"new": changed_spec(plans["free"], is_default=False)})
    assert {plan.handle for plan in await store.list_plans(owner) if plan.is_default} == {"free"}


async def test_of_operators_who_apply_at_once_the_last_one_holds_whole(
    database: Database, owner: SessionConnection, plans: dict[str, Plan]
) -> None:
    others = [await database.connect(Login.OWNER, purpose="test") for _ in range(4)]
    texts = [PLANS.replace("is_default = true", f"is_default = {str(n % 2 == 0).lower()}") for n in range(4)]
    texts = [
        text if n % 2 == 0 else text.replace("position = 9", "position = 9\nis_default = true")
        for n, text in enumerate(texts)
    ]
    await asyncio.gather(*(apply_plans(each, read_plans(text)) for each, text in zip(others, texts, strict=True)))
    for each in others:
        await each.close()
    assert len([plan for plan in await store.list_plans(owner) if plan.is_default]) == 1


async def test_an_archived_plan_is_kept_by_those_who_have_it_and_given_to_nobody(
    owner: SessionConnection, plans: dict[str, Plan], tenant: Tenant, other_tenant: Tenant
) -> None:
    await store.set_by_operator(owner, tenant.shop_id, "pro", by="ann")
    assert await store.archive_plan(owner, "pro") == 1
    assert await holds(owner, tenant) == "pro"
    with pytest.raises(ConfigurationError, match="archived"):
        await store.set_by_operator(owner, other_tenant.shop_id, "pro", by="ann")
    assert await store.count_shops(owner) == {"pro": 1, "free": 1}
    assert "archived" in (await apply_plans(owner, read_plans(PLANS)))["pro"]
