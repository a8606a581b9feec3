"""What a simulated Shopify asks for goes through ingest and its queue to the end."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from sellflow.postgres.database import SessionConnection
from sellflow.shops.compliance.exports import read_export
from sellflow.shops.compliance.models import Kind, State
from tests.conftest import Tenant
from tests.edge.serving import serving
from tests.shopify.simulated import SimulatedShopify
from tests.shops.compliance.conftest import Compliance
from tests.shops.compliance.dumps import dump, where_found


@pytest.fixture
async def selling(
    compliance: Compliance, owner: SessionConnection, shopify: SimulatedShopify, tenant: Tenant
) -> AsyncIterator[SimulatedShopify]:
    """A simulated Shopify whose webhooks reach the web role."""
    async with serving(compliance.database) as client:
        await shopify.move_in(owner, tenant, webhooks=f"{client.base_url}/webhooks/shopify/{tenant.app.handle}")
        yield shopify


async def test_a_customer_is_told_what_is_stored_and_then_erased_and_so_is_the_shop(
    compliance: Compliance, owner: SessionConnection, selling: SimulatedShopify, tenant: Tenant
) -> None:
    shop = f"/shops/{tenant.shop.domain}"
    who, other = (await selling.do("GET", f"{shop}/customers"))["customers"][:2]
    orders = [await selling.do("POST", f"{shop}/orders", {"customer_id": each["id"]}) for each in (who, other)]
    await selling.do("POST", f"{shop}/compliance/data_request", {"customer_id": who["id"]})
    await selling.delivered(tenant)
    await compliance.consume("loyalty", "compliance")
    await compliance.fulfil()
    (request,) = await compliance.requests()
    assert (request.kind, request.state) == (Kind.DATA_REQUEST, State.DONE)
    file = "".join([part async for part in read_export(owner, compliance.vault, request.request_id)])
    assert f'"order_id":{orders[0]["id"]}' in file
    assert other["email"] not in file

    await selling.do("POST", f"{shop}/compliance/redact-customer", {"customer_id": who["id"]})
    await selling.delivered(tenant)
    await compliance.consume("compliance")
    await compliance.fulfil()
    tables = await dump(owner)
    assert where_found(tables, [who["email"], str(who["id"]), who["last_name"]]) == set()
    assert where_found(tables, [other["email"]]) != set()

    await selling.uninstall(tenant)
    await selling.delivered(tenant)
    await compliance.consume("shops")
    await selling.do("POST", f"{shop}/compliance/redact-shop")
    await selling.delivered(tenant)
    await compliance.consume("compliance")
    await compliance.fulfil()
    assert [each.state for each in await compliance.requests()] == [State.DONE] * 3
    assert await owner.fetchval("SELECT count(*) FROM shops") == 0
    assert where_found(await dump(owner), [other["email"], tenant.shop.domain]) == set()
