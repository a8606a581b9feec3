"""Compliance requests by HTTP: a merchant sees the own shop's, and fetches the files of its customers."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from sellflow.postgres.database import Database, Pool, SessionConnection
from sellflow.shops.compliance import exports
from tests.conftest import Tenant
from tests.edge.callers import merchant, service
from tests.edge.serving import serving, with_settings
from tests.shops.compliance.conftest import Compliance
from tests.shops.compliance.people import ODALYS, ZEPHYRINE

PATH = "/admin/api/compliance"


@pytest.fixture
async def compliance(
    database: Database, owner: SessionConnection, worker_pool: Pool, ingest_pool: Pool, tenant: Tenant
) -> Compliance:
    found = Compliance(database, owner, worker_pool, ingest_pool, tenant)
    await found.prepare()
    return found


async def ask(compliance: Compliance, tenant: Tenant, *topics: str) -> list[int]:
    """Have Shopify ask for something of a customer, and the consumer write it down; return the requests' ids."""
    before = {each.request_id for each in await compliance.requests()}
    for topic in topics:
        body = (ZEPHYRINE.redact if topic == "customers/redact" else ZEPHYRINE.data_request)(tenant.shop.domain, 1000)
        await compliance.deliver(topic, body, tenant=tenant)
    await compliance.consume("compliance")
    return [each.request_id for each in await compliance.requests() if each.request_id not in before]


async def test_a_request_is_shown_from_its_arrival_to_its_end(
    client: httpx.AsyncClient, compliance: Compliance, tenant: Tenant
) -> None:
    (request_id,) = await ask(compliance, tenant, "customers/data_request")
    headers = merchant(tenant)
    (listed,) = (await client.get(PATH, headers=headers, params={"unfinished": True})).json()["items"]
    assert listed == (await client.get(f"{PATH}/{request_id}", headers=headers)).json()
    assert (listed["id"], listed["kind"], listed["state"], listed["overdue"]) == (
        request_id,
        "data_request",
        "open",
        False,
    )
    assert listed["customer"] == {
        "id": ZEPHYRINE.customer_id,
        "email": ZEPHYRINE.email,
        "phone": ZEPHYRINE.phone,
        "order_ids": [1000],
    }
    assert (listed["data_request_id"], listed["export_expires_at"]) == (9999, None)
    await compliance.fulfil()
    done = (await client.get(f"{PATH}/{request_id}", headers=headers)).json()
    assert done["state"] == "done"
    assert done["export_expires_at"] is not None
    assert (await client.get(PATH, headers=headers, params={"unfinished": True})).json()["items"] == []

    (erased_id,) = await ask(compliance, tenant, "customers/redact")
    await compliance.fulfil()
    erased = (await client.get(f"{PATH}/{erased_id}", headers=headers)).json()
    assert (erased["state"], erased["customer"]) == ("done", None)
    assert erased["erased"]["events"] > 0


async def test_a_file_comes_in_parts_and_is_whole(
    client: httpx.AsyncClient, compliance: Compliance, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "PART", 500)
    await compliance.deliver("orders/paid", ZEPHYRINE.order(1000))
    await compliance.deliver("orders/paid", ODALYS.order(2000))
    await compliance.consume("loyalty")
    (request_id,) = await ask(compliance, tenant, "customers/data_request")
    await compliance.fulfil()
    answer = await client.get(f"{PATH}/{request_id}/export", headers=merchant(tenant))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["content-disposition"] == f'attachment; filename="customer-data-{request_id}.json"'
    assert answer.headers["cache-control"] == "no-store"
    assert "content-length" not in answer.headers, "it never stands in memory whole"
    document = answer.json()
    assert document["request"]["customer"]["email"] == ZEPHYRINE.email
    assert [each["order_id"] for each in document["tables"]["orders"]] == [1000]
    assert ODALYS.email not in answer.text


async def test_a_file_that_is_deleted_meanwhile_does_not_look_whole(
    *,
    database: Database,
    compliance: Compliance,
    owner: SessionConnection,
    tenant: Tenant,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is held for whoever reads slowly: neither a connection, of which there is one, nor a transaction."""
    monkeypatch.setattr(exports, "PART", 60_000)
    for number in range(60):
        await compliance.deliver("customers/update", ZEPHYRINE.customer | {"note": "x" * 200_000, "n": number})
    (request_id,) = await ask(compliance, tenant, "customers/data_request")
    await compliance.fulfil()
    async with (
        serving(with_settings(database, admin_pool_size=1)) as client,
        client.stream("GET", f"{PATH}/{request_id}/export", headers=merchant(tenant)) as answer,
    ):
        parts = answer.aiter_raw()
        await anext(parts)
        async with asyncio.timeout(10):
            assert (await client.get(PATH, headers=merchant(tenant))).status_code == 200
        await owner.execute("DELETE FROM compliance_exports")
        with pytest.raises(httpx.RemoteProtocolError):
            _ = [part async for part in parts]


async def test_nobody_sees_or_fetches_what_is_another_shop_s(
    client: httpx.AsyncClient,
    compliance: Compliance,
    owner: SessionConnection,
    tenant: Tenant,
    other_tenant: Tenant,
) -> None:
    (own,) = await ask(compliance, tenant, "customers/data_request")
    (foreign,) = await ask(compliance, other_tenant, "customers/data_request")
    await compliance.fulfil()
    for who, theirs, others in ((tenant, own, foreign), (other_tenant, foreign, own)):
        headers = merchant(who)
        assert [each["id"] for each in (await client.get(PATH, headers=headers)).json()["items"]] == [theirs]
        for path in (f"{PATH}/{others}", f"{PATH}/{others}/export"):
            hidden = await client.get(path, headers=headers)
            assert (hidden.status_code, hidden.json()["code"]) == (404, "not_found")
            assert "sellflow" not in hidden.text, "what one types at a terminal is no advice for a merchant"
    for headers in ({}, await service(owner, "deadletters:read")):
        for path in (PATH, f"{PATH}/{own}", f"{PATH}/{own}/export"):
            assert (await client.get(path, headers=headers)).status_code == 401


async def test_there_is_no_file_before_its_time_nor_of_an_erasure(
    client: httpx.AsyncClient, compliance: Compliance, owner: SessionConnection, tenant: Tenant
) -> None:
    headers = merchant(tenant)
    (request_id,) = await ask(compliance, tenant, "customers/data_request")
    early = await client.get(f"{PATH}/{request_id}/export", headers=headers)
    assert (early.status_code, early.json()["detail"]) == (
        404,
        f"Request {request_id} has no file: it is not done yet.",
    )
    await compliance.fulfil()
    await owner.execute("UPDATE compliance_requests SET expires_at = clock_timestamp() - interval '1 second'")
    await compliance.run()
    late = await client.get(f"{PATH}/{request_id}/export", headers=headers)
    assert (late.status_code, "is deleted" in late.json()["detail"]) == (404, True)
    (erasure,) = await ask(compliance, tenant, "customers/redact")
    none = await client.get(f"{PATH}/{erasure}/export", headers=headers)
    assert (none.status_code, "does not ask for data" in none.json()["detail"]) == (404, True)


async def test_requests_come_page_by_page(client: httpx.AsyncClient, compliance: Compliance, tenant: Tenant) -> None:
    made = await ask(compliance, tenant, *["customers/data_request"] * 5)
    found: list[int] = []
    query: dict[str, str | int] = {"limit": 2}
    while True:
        page = (await client.get(PATH, headers=merchant(tenant), params=query)).json()
        found += [each["id"] for each in page["items"]]
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
    assert found == sorted(made, reverse=True)


@pytest.mark.parametrize("request_id", ["0", "-1", "x", "1%20OR%201=1", "9223372036854775808", "1.5", "%00"])
async def test_hostile_ids_are_problems(client: httpx.AsyncClient, tenant: Tenant, request_id: str) -> None:
    for path in (f"{PATH}/{request_id}", f"{PATH}/{request_id}/export"):
        answer = await client.get(path, headers=merchant(tenant))
        assert (answer.status_code, answer.json()["code"]) == (400, "request.invalid")
    unknown = await client.get(f"{PATH}/9223372036854775807", headers=merchant(tenant))
    assert unknown.status_code == 404


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "cursor=x", "unfinished=odd", "odd=1"])
async def test_wrong_parameters_are_problems(client: httpx.AsyncClient, tenant: Tenant, query: str) -> None:
    assert (await client.get(f"{PATH}?{query}", headers=merchant(tenant))).status_code == 400
