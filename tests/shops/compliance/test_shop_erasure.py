"""A shop is erased from everything, its key with it, and no other shop notices."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from sellflow.postgres.database import Login, SessionConnection
from sellflow.queue.event_log import adopt
from sellflow.secrets.errors import DataKeyMissingError
from sellflow.shops.compliance import event_log, whole_shops
from sellflow.shops.compliance.models import State
from sellflow.shops.store import install_shop
from tests.conftest import Tenant
from tests.loyalty.books import check_books
from tests.postgres.filling import fill
from tests.shops.compliance.conftest import Compliance, cut_off
from tests.shops.compliance.dumps import dump, where_found
from tests.shops.compliance.people import ODALYS, ZEPHYRINE

REDACT = "shop/redact"
#: What is left of a shop: that it was erased, and that nothing is handled which still comes under its number.
RECORD = {"compliance_requests", "pauses"}


def redact(domain: str) -> dict[str, object]:
    return {"shop_id": 954889, "shop_domain": domain}


async def uninstall(compliance: Compliance, tenant: Tenant) -> None:
    await compliance.deliver("app/uninstalled", {"myshopify_domain": tenant.shop.domain}, tenant=tenant)
    await compliance.consume("shops")


async def rows_of(owner: SessionConnection, shop_id: int) -> dict[str, int]:
    """How many rows of a shop there are, by table, wherever there are any."""
    tables = await owner.fetch(
        """
        SELECT c.oid::regclass::text AS name FROM pg_class c
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'shop_id' AND NOT a.attisdropped
        WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relnamespace = 'public'::regnamespace
        """
    )
    found = {}
    for table in tables:
        number = await owner.fetchval(f"SELECT count(*) FROM {table['name']} WHERE shop_id = $1", shop_id)
        if number:
            found[table["name"]] = int(number)
    for queue in await owner.fetch("SELECT queue_name FROM pgmq.meta"):
        name = f'pgmq."q_{queue["queue_name"]}"'
        number = await owner.fetchval(f"SELECT count(*) FROM {name} WHERE message_shop(message) = $1", shop_id)
        if number:
            found[name] = int(number)
    return found


async def test_a_shop_goes_from_every_table_and_another_stays_as_it_was(
    compliance: Compliance, owner: SessionConnection, tenant: Tenant, other_tenant: Tenant
) -> None:
    await fill(compliance.database, tenant, other_tenant)
    await compliance.deliver("orders/paid", ZEPHYRINE.order(1001))
    await compliance.deliver("orders/paid", ODALYS.order(2001), tenant=other_tenant)
    await compliance.consume()
    await uninstall(compliance, tenant)
    await compliance.deliver("orders/paid", ZEPHYRINE.order(1002))  # waits in its queues
    sealed = await compliance.vault.seal(owner, "a token", shop_id=tenant.shop_id, purpose="test")
    others = await rows_of(owner, other_tenant.shop_id)
    await compliance.deliver(REDACT, redact(tenant.shop.domain))
    await compliance.consume("compliance")
    await compliance.fulfil()

    assert set(await rows_of(owner, tenant.shop_id)) == RECORD
    assert await rows_of(owner, other_tenant.shop_id) == others
    tables = await dump(owner)
    assert where_found(tables, [*ZEPHYRINE.data, tenant.shop.domain]) == set()
    assert where_found(tables, [ODALYS.email]) != set()
    await check_books(owner)
    record = (await compliance.requests())[-1]
    assert (record.state, record.shop_domain, record.person) == (State.DONE, None, None)
    assert record.record["events"] > 0
    assert record.record["transfers"] > 0
    compliance.vault = type(compliance.vault)(compliance.vault._providers)
    with pytest.raises(DataKeyMissingError):
        await compliance.vault.open(owner, sealed, shop_id=tenant.shop_id, purpose="test")


async def test_a_shop_that_is_installed_is_erased_on_an_operators_word_alone(
    compliance: Compliance, owner: SessionConnection, tenant: Tenant
) -> None:
    await compliance.deliver(REDACT, redact(tenant.shop.domain))
    await compliance.consume("compliance")
    await compliance.fulfil()
    (request,) = await compliance.requests()
    assert request.state is State.HELD
    assert "confirm" in request.reason
    assert await owner.fetchval("SELECT count(*) FROM shops") == 1
    assert await compliance.confirm(request.request_id)
    await compliance.fulfil()
    assert await owner.fetchval("SELECT count(*) FROM shops") == 0
    assert [each.state for each in await compliance.requests()] == [State.DONE]


async def test_an_erasure_of_a_shop_that_is_cut_off_anywhere_is_completed_by_the_next(
    compliance: Compliance,
    owner: SessionConnection,
    tenant: Tenant,
    other_tenant: Tenant,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(event_log, "DELETED_TOGETHER", 2)
    monkeypatch.setattr(whole_shops, "BATCH", 1)
    await fill(compliance.database, tenant, other_tenant)
    await uninstall(compliance, tenant)
    others = await rows_of(owner, other_tenant.shop_id)
    await compliance.deliver(REDACT, redact(tenant.shop.domain))
    await compliance.consume("compliance")
    statements = 5
    while not all(each.state is State.DONE for each in await compliance.requests()):
        assert statements < 1000, "it never came to an end"
        await cut_off(compliance, after=statements)
        statements += 7
    assert statements > 100
    assert set(await rows_of(owner, tenant.shop_id)) == RECORD
    assert await rows_of(owner, other_tenant.shop_id) == others
    await check_books(owner)


async def test_webhooks_and_workers_at_work_do_not_keep_a_shop_from_going(
    compliance: Compliance, owner: SessionConnection, tenant: Tenant, other_tenant: Tenant
) -> None:
    async def sell() -> None:
        for number in range(40):
            await compliance.deliver("orders/paid", ZEPHYRINE.order(1000 + number))
            await compliance.deliver("orders/paid", ODALYS.order(3000 + number), tenant=other_tenant)
            await compliance.consume("loyalty")

    await uninstall(compliance, tenant)
    await compliance.deliver(REDACT, redact(tenant.shop.domain))
    await compliance.consume("compliance")
    connection = await compliance.database.connect(Login.OWNER, purpose="test")
    selling = asyncio.create_task(sell())
    while not selling.done():
        await connection.execute("UPDATE compliance_requests SET next_at = clock_timestamp()")
        await compliance.job.run(connection)
    await selling
    await compliance.consume()
    await compliance.job.run(connection)
    await connection.close()
    assert set(await rows_of(owner, tenant.shop_id)) == RECORD
    assert where_found(await dump(owner), ZEPHYRINE.data) == set()
    assert await owner.fetchval("SELECT sum(balance) FROM accounts WHERE kind = 'customer'") == 40 * 25
    await check_books(owner)


async def test_what_comes_under_a_former_id_is_handed_to_the_shop_that_came_back(
    compliance: Compliance, owner: SessionConnection, tenant: Tenant
) -> None:
    await compliance.deliver("orders/paid", ZEPHYRINE.order(999))  # ingest learns the shop's id
    await uninstall(compliance, tenant)
    await compliance.deliver(REDACT, redact(tenant.shop.domain))
    await compliance.consume()
    await compliance.fulfil()
    back = await install_shop(owner, app_id=tenant.app.app_id, domain=tenant.shop.domain, currency="USD")
    await compliance.deliver("orders/paid", ODALYS.order(1000))
    assert await owner.fetchval("SELECT DISTINCT shop_id FROM events") == tenant.shop_id
    await compliance.consume("loyalty")
    assert await owner.fetchval("SELECT count(*) FROM outcomes") == 0, "it was nobody's"
    await compliance.run()
    assert await adopt(owner, compliance.registry) == 1
    await compliance.consume()
    assert await owner.fetchval("SELECT shop_id FROM orders WHERE order_id = 1000") == back.shop_id
    assert await owner.fetchval("SELECT count(*) FROM pauses") == 1
    await owner.execute("UPDATE compliance_requests SET finished_at = finished_at - interval '2 hours'")
    await compliance.run()
    assert await owner.fetchval("SELECT count(*) FROM pauses") == 0


async def test_requests_about_customers_of_a_shop_that_is_erased_end_with_it(
    compliance: Compliance, owner: SessionConnection, tenant: Tenant
) -> None:
    await compliance.deliver("orders/paid", ZEPHYRINE.order(1000))
    await compliance.deliver("customers/data_request", ZEPHYRINE.data_request(tenant.shop.domain))
    await compliance.consume()
    await compliance.fulfil()
    await uninstall(compliance, tenant)
    await compliance.deliver(REDACT, redact(tenant.shop.domain))
    await compliance.consume("compliance")
    await compliance.step()
    await compliance.step()
    assert await owner.fetchval("SELECT count(*) FROM compliance_exports") == 0
    assert {each.state for each in await compliance.requests()} == {State.DONE}
    assert where_found(await dump(owner), [*ZEPHYRINE.data, tenant.shop.domain]) == set()


@pytest.mark.parametrize("table", ["transfers", "entries", "allocations"])
async def test_the_ledger_opens_for_the_shop_that_is_being_erased_and_no_other(
    compliance: Compliance, owner: SessionConnection, tenant: Tenant, other_tenant: Tenant, table: str
) -> None:
    await fill(compliance.database, tenant, other_tenant)
    await owner.execute("DELETE FROM compliance_requests")
    delete = f"DELETE FROM {table} WHERE shop_id = $1"

    async def attempt(claimed: int, deleted: int) -> None:
        await owner.execute("SELECT set_config('sellflow.erased_shop', $1, false)", str(claimed))
        with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
            await owner.execute(delete, deleted)
        await owner.execute("RESET sellflow.erased_shop")

    await attempt(tenant.shop_id, tenant.shop_id)  # Shopify did not ask for it
    await compliance.deliver(REDACT, redact(tenant.shop.domain))
    await compliance.consume("compliance")
    await attempt(tenant.shop_id, other_tenant.shop_id)
    await attempt(other_tenant.shop_id, other_tenant.shop_id)
    with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
        await owner.execute(delete, tenant.shop_id)
