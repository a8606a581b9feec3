"""What a shop had before: its customers, and its orders, each once and without points that nobody promised."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sellflow.loyalty.program_store import start_earning
from sellflow.secrets import Vault
from sellflow.shops.imports import run, store
from sellflow.shops.imports.handlers import continue_imports
from sellflow.shops.imports.run import ImportStep
from sellflow.shops.imports.store import Import
from sellflow.shops.token_jobs import announce_installations
from tests.queue.consuming import drain
from tests.shops.reconciliation.world import World


async def take_steps(world: World, vault: Vault, *, at_most: int = 100, budget: float = 60.0) -> Import:
    """Take an import's steps until its end, and have handled what they fed."""
    [found, *_] = await store.list_imports(world.owner, world.tenant.shop_id)
    for _ in range(at_most):
        wait = await ImportStep(world.admin, vault, budget=budget).take(world.tenant.shop_id, found.import_id)
        await world.handle()
        if wait is None:
            break
    [found, *_] = await store.list_imports(world.owner, world.tenant.shop_id)
    return found


async def customers_of(world: World) -> set[int]:
    known: list[dict[str, Any]] = (await world.shopify.do("GET", f"/shops/{world.tenant.shop.domain}/customers"))[
        "customers"
    ]
    return {each["id"] for each in known}


async def test_customers_are_imported_whole(world: World, vault: Vault) -> None:
    assert await store.ask_for(world.owner, [world.tenant.shop_id], "customers") == 1
    assert await store.ask_for(world.owner, [world.tenant.shop_id], "customers") == 0
    done = await take_steps(world, vault)
    stored = {row["customer_id"] for row in await world.owner.fetch("SELECT customer_id FROM customers")}
    assert stored == await customers_of(world)
    assert (done.state, done.stored, done.share) == ("done", len(stored), 1.0)


async def test_an_import_that_is_cut_off_after_any_batch_goes_on_there(
    world: World, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "TOGETHER", 7)
    await store.ask_for(world.owner, [world.tenant.shop_id], "customers")
    done = await take_steps(world, vault, budget=0.0)
    assert (done.state, done.stored) == ("done", len(await customers_of(world)))


async def test_the_history_of_orders_is_known_and_brings_no_points(world: World, vault: Vault) -> None:
    orders = await world.sell(20, seed=30, lose=1.0)
    await start_earning(world.owner, world.tenant.shop_id, datetime.now(UTC) + timedelta(minutes=1))
    await store.ask_for(world.owner, [world.tenant.shop_id], "orders")
    done = await take_steps(world, vault)
    assert (done.state, done.stored) == ("done", len(orders))
    assert await world.owner.fetchval("SELECT count(*) FROM orders") == len(orders)
    assert await world.owner.fetchval("SELECT count(*) FROM refunds") == sum(order.refunds for order in orders)
    assert await world.owner.fetchval("SELECT count(*) FROM transfers") == 0


async def test_history_that_is_to_earn_brings_exactly_what_webhooks_would_have(world: World, vault: Vault) -> None:
    orders = await world.sell(20, seed=31, lose=1.0)
    await store.ask_for(world.owner, [world.tenant.shop_id], "orders")
    await take_steps(world, vault)
    assert await world.wrong_orders(orders) == {}
    # What was imported is no news to whoever reconciles: each fact once, whoever tells it.
    await world.reconcile()
    assert await world.wrong_orders(orders) == {}


async def test_orders_of_the_past_make_way_for_those_of_today(
    world: World, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "TOGETHER", 4)
    monkeypatch.setattr(run, "MOST_WAITING", 5)
    orders = await world.sell(16, seed=32, lose=1.0)
    await store.ask_for(world.owner, [world.tenant.shop_id], "orders")
    [found] = await store.list_imports(world.owner, world.tenant.shop_id)
    step = ImportStep(world.admin, vault, budget=60)
    while (await step.take(world.tenant.shop_id, found.import_id)) == run.LOOK_AGAIN:
        pass
    assert await world.owner.fetchval("SELECT count(*) FROM pgmq.q_loyalty") == 8
    done = await take_steps(world, vault)
    assert (done.state, done.stored) == ("done", len(orders))


async def test_an_installation_has_the_customers_imported_by_worker_and_scheduler(world: World) -> None:
    await announce_installations(world.registry).run(world.owner)
    await world.handle()
    job = continue_imports(world.registry)
    for _ in range(20):
        await world.owner.execute("UPDATE imports SET next_step_at = now()")
        await job.run(world.owner)
        await drain(world.database, world.pool, world.registry, "reconciliation")
        [found] = await store.list_imports(world.owner, world.tenant.shop_id)
        if found.finished_at:
            break
    assert (found.state, found.error) == ("done", "")
    assert await world.owner.fetchval("SELECT count(*) FROM customers") == len(await customers_of(world))


async def test_a_file_that_shopify_cannot_write_is_told_and_ends_the_import(world: World) -> None:
    await store.ask_for(world.owner, [world.tenant.shop_id], "customers")
    await world.owner.execute(
        "UPDATE imports SET operation_id = 'gid://shopify/BulkOperation/4711', state = 'exporting'"
    )
    await continue_imports(world.registry).run(world.owner)
    await drain(world.database, world.pool, world.registry, "reconciliation")
    [found] = await store.list_imports(world.owner, world.tenant.shop_id)
    assert found.state == "failed"
    assert "does not know the bulk operation" in found.error
