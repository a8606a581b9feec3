"""The scheduler renews tokens before anybody waits for it, and tells of grants and losses."""

from __future__ import annotations

import orjson

from sellflow.postgres.database import Database, SessionConnection
from sellflow.queue.registry import Registry
from sellflow.secrets import Vault
from sellflow.shops.token_jobs import announce_installations, renew_tokens
from tests.conftest import Tenant
from tests.shopify.simulated import SimulatedShopify
from tests.shopify.tokens.conftest import Installed

HOUR = 3600.0


async def moved_in(
    owner: SessionConnection, shopify: SimulatedShopify, vault: Vault, *tenants: Tenant
) -> list[Installed]:
    made = []
    for tenant in tenants:
        await shopify.move_in(owner, tenant)
        made.append(Installed(owner, shopify, tenant, vault))
        await made[-1].put_pair()
    return made


async def test_what_ends_soon_is_renewed_and_nothing_else(
    *,
    database: Database,
    owner: SessionConnection,
    shopify: SimulatedShopify,
    vault: Vault,
    tenant: Tenant,
    other_tenant: Tenant,
) -> None:
    soon, later = await moved_in(owner, shopify, vault, tenant, other_tenant)
    await soon.let_pass(HOUR - 500)
    await later.let_pass(HOUR - 1200)
    job = renew_tokens(database.settings)
    assert await job.run(owner) == "1 of 1 tokens renewed"
    assert await job.run(owner) == "no token ends soon"
    assert [(await each.refreshes())["granted"] for each in (soon, later)] == [1, 0]


async def test_one_shops_trouble_is_no_others(
    *,
    database: Database,
    owner: SessionConnection,
    shopify: SimulatedShopify,
    vault: Vault,
    tenant: Tenant,
    other_tenant: Tenant,
) -> None:
    lost, well = await moved_in(owner, shopify, vault, tenant, other_tenant)
    await lost.let_pass(HOUR, refresh=91 * 86_400)
    await well.let_pass(HOUR)
    job = renew_tokens(database.settings)
    assert await job.run(owner) == "1 of 2 tokens renewed"
    assert await job.run(owner) == "no token ends soon"
    assert (await lost.refreshes())["received"] == 1


async def test_a_shop_that_removed_the_app_is_left_alone(
    database: Database, owner: SessionConnection, shopify: SimulatedShopify, vault: Vault, tenant: Tenant
) -> None:
    (gone,) = await moved_in(owner, shopify, vault, tenant)
    await gone.let_pass(HOUR)
    await owner.execute("UPDATE shops SET uninstalled_at = now()")
    assert await renew_tokens(database.settings).run(owner) == "no token ends soon"


async def told(owner: SessionConnection) -> list[tuple[str, object]]:
    rows = await owner.fetch("SELECT topic, payload FROM events ORDER BY event_id")
    return [(row["topic"], orjson.loads(row["payload"])) for row in rows]


async def test_a_grant_is_told_once_a_new_grant_again_and_a_loss_as_such(
    registry: Registry, owner: SessionConnection, shopify: SimulatedShopify, vault: Vault, tenant: Tenant
) -> None:
    (shop,) = await moved_in(owner, shopify, vault, tenant)
    job = announce_installations(registry)
    assert await job.run(owner) == "1 shops announced"
    assert await job.run(owner) == "0 shops announced"
    await shop.put_pair()
    assert await job.run(owner) == "1 shops announced"
    await owner.execute("UPDATE access_tokens SET broken_at = clock_timestamp(), last_error = 'refused'")
    assert await job.run(owner) == "1 shops announced"
    assert [topic for topic, _ in await told(owner)] == ["shops.installed", "shops.installed", "shops.reinstall_needed"]
    granted = {"shop": "acme.myshopify.com", "scopes": ["read_customers", "read_orders", "write_discounts"]}
    assert (await told(owner))[0][1] == granted
    assert (await told(owner))[-1][1] == granted | {"reason": "refused"}
