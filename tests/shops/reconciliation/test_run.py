"""Lost webhooks are found, each once, and points end up exactly where they would be without the loss."""

from __future__ import annotations

import asyncio

from sellflow.shops.reconciliation import store
from tests.conftest import Tenant
from tests.shops.reconciliation.world import World


async def test_with_a_twentieth_of_the_webhooks_lost_the_ledger_ends_up_exact(world: World) -> None:
    orders = await world.sell(120, seed=20, lose=0.05, duplicate=0.1, reorder=0.2)
    wrong = await world.wrong_orders(orders)
    assert any(expected > awarded for expected, awarded in wrong.values()), "no order lost its points with its webhooks"
    assert any(expected < awarded for expected, awarded in wrong.values()), "no refund or cancellation was lost"
    tally = await world.reconcile()
    assert await world.wrong_orders(orders) == {}
    assert tally.orders == len(orders)
    assert tally.repaired == sum((await world.fed()).values()) >= len(wrong)
    again = await world.reconcile()
    assert again.repaired == 0
    assert await world.wrong_orders(orders) == {}


async def test_of_what_arrived_nothing_is_repaired(world: World) -> None:
    orders = await world.sell(25, seed=6, duplicate=0.2, reorder=0.3)
    tally = await world.reconcile()
    assert tally.orders == len(orders)
    # Nobody ever told of the customers that the shop had before.
    assert set(await world.fed()) == {"shopify.customers.update"}


async def test_of_shops_that_hear_nothing_everything_is_found(world: World) -> None:
    orders = await world.sell(25, seed=7, lose=1.0)
    assert len(await world.wrong_orders(orders)) > 10
    await world.reconcile()
    assert await world.wrong_orders(orders) == {}
    fed = await world.fed()
    assert fed["shopify.orders.create"] == len(orders)
    assert fed["shopify.refunds.create"] == sum(order.refunds for order in orders)
    assert fed["shopify.orders.paid"] == sum(order.paid for order in orders)


async def test_several_who_reconcile_at_once_feed_each_thing_once(world: World) -> None:
    orders = await world.sell(15, seed=8, lose=1.0)
    tallies = await asyncio.gather(*(world.reconcile() for _ in range(3)))
    assert await world.wrong_orders(orders) == {}
    fed = await world.fed()
    assert fed["shopify.orders.create"] == len(orders)
    assert sum(tally.repaired for tally in tallies) == sum(fed.values())


async def test_a_run_out_of_time_goes_on_where_it_stopped(world: World) -> None:
    orders = await world.sell(15, seed=9, lose=1.0)
    first = await world.reconcile(budget=0.000_1)
    while not first.is_complete:
        first = await world.reconcile(budget=0.000_1)
    assert await world.wrong_orders(orders) == {}


async def test_a_change_that_is_still_on_its_way_is_left_alone(world: World) -> None:
    await world.sell(3, seed=10, lose=1.0)
    tally = await world.reconcile(settle=3600)
    assert (tally.orders, tally.repaired) == (0, 0)
    assert (await world.reconcile()).repaired > 0


async def test_customers_that_changed_unheard_are_known_afterwards(world: World) -> None:
    path = f"/shops/{world.tenant.shop.domain}/customers"
    (first, *_) = (await world.shopify.do("GET", path))["customers"]
    await world.shopify.do("PUT", f"/shops/{world.tenant.shop.domain}/webhook-faults", {"lose": 1.0})
    await world.shopify.do("POST", f"{path}/{first['id']}", {"email": "new@example.com"})
    await world.reconcile()
    row = await world.owner.fetchrow("SELECT email FROM customers WHERE customer_id = $1", first["id"])
    assert row is not None
    assert row["email"] == "new@example.com"
    assert (await world.reconcile()).repaired == 0


async def test_a_shop_that_removed_the_app_is_left_alone(world: World) -> None:
    await world.owner.execute("UPDATE shops SET uninstalled_at = now()")
    async with world.pool.acquire() as connection, connection.transaction():
        await connection.execute(f"SET LOCAL sellflow.shop_ids = '{{{world.tenant.shop_id}}}'")
        assert await store.read_progress(connection, world.tenant.shop_id) is None
    assert await store.begin_due(world.owner, every=60, at_most=10) == []


async def test_each_shop_has_its_turn_once_a_period(world: World, other_tenant: Tenant) -> None:
    assert await store.begin_due(world.owner, every=60, at_most=10) == [world.tenant.shop_id]
    assert await store.begin_due(world.owner, every=60, at_most=10) == []
    for each in (world.tenant, other_tenant):
        await store.make_due(world.owner, each.shop_id, since=None)
    # The other shop has no token to ask with.
    assert await store.begin_due(world.owner, every=60, at_most=10) == [world.tenant.shop_id]


async def test_history_that_shopify_hides_is_said_where_the_scope_is_missing(world: World) -> None:
    long_ago = "UPDATE reconciliations SET orders_until = now() - interval '61 days'"
    await world.owner.execute(long_ago)
    assert "read_all_orders" in (await world.reconcile()).sentence()
    assert "read_all_orders" not in (await world.reconcile()).sentence()
    await world.owner.execute(long_ago)
    await world.owner.execute("UPDATE access_tokens SET scopes = scopes || '{read_all_orders}'")
    assert "read_all_orders" not in (await world.reconcile()).sentence()
