"""A customer's data as one file: whole, encrypted where it lies, and gone after its time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import orjson
import pytest

from sellflow.errors import NotFoundError
from sellflow.postgres.database import Pool, SessionConnection
from sellflow.postgres.transactions import admin_transaction
from sellflow.secrets import build_vault
from sellflow.shops.compliance import exports
from sellflow.shops.compliance.exports import read_export
from sellflow.shops.compliance.models import State
from tests.conftest import Tenant
from tests.shops.compliance.conftest import Compliance
from tests.shops.compliance.dumps import dump, where_found
from tests.shops.compliance.people import ODALYS, ZEPHYRINE


async def export(compliance: Compliance) -> dict[str, object]:
    (request,) = [each for each in await compliance.requests() if each.state is State.DONE]
    parts = [part async for part in read_export(compliance.owner, compliance.vault, request.request_id)]
    document: dict[str, object] = orjson.loads("".join(parts))
    return document


async def ask(compliance: Compliance, tenant: Tenant) -> None:
    await compliance.deliver("customers/data_request", ZEPHYRINE.data_request(tenant.shop.domain, 1000))
    await compliance.consume()
    await compliance.fulfil()


async def test_a_file_holds_everything_of_the_customer_and_nothing_of_another(
    compliance: Compliance, tenant: Tenant
) -> None:
    for who, order_id in ((ZEPHYRINE, 1000), (ODALYS, 2000)):
        await compliance.deliver("orders/paid", who.order(order_id))
        await compliance.deliver("refunds/create", who.refund(order_id + 50, order_id))
        await compliance.deliver("orders/paid", who.order(order_id + 1, tags="dead"))
        await compliance.deliver("customers/update", who.customer)
    await compliance.consume()
    await ask(compliance, tenant)
    document = await export(compliance)
    text = orjson.dumps(document).decode()
    assert where_found({"file": text}, ZEPHYRINE.data) >= {f"{each} in file" for each in ZEPHYRINE.data}
    assert where_found({"file": text}, ODALYS.data) == set()
    tables = document["tables"]
    assert isinstance(tables, dict)
    sizes = {name: len(rows) for name, rows in tables.items() if rows}
    assert sizes | {"outcomes": 0, "events": 0} == {
        "accounts": 1,
        "customers": 1,
        "dead_letters": 1,
        "entries": 2,
        "events": 0,
        "failed_attempts": 1,
        "lots": 2,
        "order_lines": 2,
        "orders": 2,
        "outcomes": 0,
        "refund_lines": 1,
        "refunds": 1,
    }
    assert tables["accounts"][0]["balance"] == 40
    topics = {each["topic"] for each in tables["events"]}
    assert {"shopify.orders.paid", "shopify.refunds.create", "shopify.customers.update"} <= topics
    assert "loyalty.points.earned" in topics
    paid = next(each for each in tables["events"] if each["topic"] == "shopify.orders.paid")
    assert paid["payload"]["shipping_address"] == ZEPHYRINE.address


async def test_a_file_is_made_in_parts_and_none_of_them_lies_there_to_be_read(
    compliance: Compliance, owner: SessionConnection, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "PART", 500)
    await compliance.deliver("orders/paid", ZEPHYRINE.order(1000))
    await ask(compliance, tenant)
    assert await owner.fetchval("SELECT count(*) FROM compliance_exports") > 5
    tables = {"compliance_exports": (await dump(owner))["compliance_exports"]}
    assert where_found(tables, ZEPHYRINE.data) == set()
    assert (await export(compliance))["tables"]


async def test_the_admin_login_reads_a_file_of_its_own_shop_alone(
    compliance: Compliance, admin_pool: Pool, tenant: Tenant, other_tenant: Tenant
) -> None:
    await ask(compliance, tenant)
    (request,) = await compliance.requests()
    vault = build_vault(compliance.database.settings)
    async with admin_transaction(admin_pool, tenant.shop_id) as connection:
        parts = [part async for part in read_export(connection, vault, request.request_id)]
    assert orjson.loads("".join(parts))["request"]["data_request_id"] == 9999
    async with admin_transaction(admin_pool, other_tenant.shop_id) as connection:
        with pytest.raises(NotFoundError):
            _ = [part async for part in read_export(connection, vault, request.request_id)]


async def test_a_file_is_gone_after_its_time(compliance: Compliance, owner: SessionConnection, tenant: Tenant) -> None:
    await ask(compliance, tenant)
    (request,) = await compliance.requests()
    assert request.expires_at is not None
    assert timedelta(days=29) < request.expires_at - datetime.now(UTC) < timedelta(days=31)
    await owner.execute("UPDATE compliance_requests SET expires_at = clock_timestamp() - interval '1 second'")
    assert "1 exports expired" in await compliance.run()
    (request,) = await compliance.requests()
    assert request.person is None
    with pytest.raises(NotFoundError, match="is deleted"):
        await export(compliance)


async def test_bytes_that_are_no_json_are_exported_all_the_same(compliance: Compliance, tenant: Tenant) -> None:
    await compliance.deliver("orders/paid", b'{"id": 1000, "email": "' + ZEPHYRINE.email.encode() + b'", \xff')
    await ask(compliance, tenant)
    tables = (await export(compliance))["tables"]
    assert isinstance(tables, dict)
    assert [each["topic"] for each in tables["events"] if "payload_base64" in each] == ["shopify.orders.paid"]
