"""Imports by HTTP: a merchant begins them, sees how far they are and stops them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import httpx

from sellflow.loyalty.program_store import read_program
from sellflow.postgres.database import SessionConnection
from sellflow.shops.imports.store import end
from tests.conftest import Tenant
from tests.edge.callers import merchant

PATH = "/admin/api/imports"


async def test_an_import_is_begun_once_shown_and_stopped(
    client: httpx.AsyncClient, owner: SessionConnection, tenant: Tenant
) -> None:
    headers = merchant(tenant)
    assert (await client.get(PATH, headers=headers)).json() == {"items": []}
    begun = await client.post(PATH, headers=headers, json={"kind": "customers"})
    assert begun.status_code == 202
    assert (begun.json()["state"], begun.json()["stored"], begun.json()["share"]) == ("waiting", 0, None)
    again = await client.post(PATH, headers=headers, json={"kind": "customers"})
    assert again.json() == begun.json(), "a second is the first while that goes on"
    await owner.execute("UPDATE imports SET state = 'reading', expected = 200, stored = 50")
    (shown,) = (await client.get(PATH, headers=headers)).json()["items"]
    assert (shown["state"], shown["stored"], shown["expected"], shown["share"]) == ("reading", 50, 200, 0.25)
    stopped = await client.delete(f"{PATH}/{shown['id']}", headers=headers)
    assert (stopped.status_code, stopped.json()["state"], stopped.json()["stored"]) == (200, "cancelled", 50)
    assert stopped.json()["finished_at"] is not None


async def test_one_that_has_ended_stays_as_it_ended_and_makes_way_for_the_next(
    client: httpx.AsyncClient, owner: SessionConnection, tenant: Tenant
) -> None:
    headers = merchant(tenant)
    first = (await client.post(PATH, headers=headers, json={"kind": "orders"})).json()
    await end(owner, tenant.shop_id, first["id"], state="done")
    assert (await client.delete(f"{PATH}/{first['id']}", headers=headers)).json()["state"] == "done"
    second = (await client.post(PATH, headers=headers, json={"kind": "orders"})).json()
    assert second["id"] != first["id"]
    assert [each["id"] for each in (await client.get(PATH, headers=headers)).json()["items"]] == [
        second["id"],
        first["id"],
    ]


async def test_orders_of_the_past_bring_points_only_from_the_moment_that_is_said(
    client: httpx.AsyncClient, owner: SessionConnection, tenant: Tenant
) -> None:
    before = datetime.now(UTC)
    first = (await client.post(PATH, headers=merchant(tenant), json={"kind": "orders"})).json()
    saved = (await read_program(owner, tenant.shop_id)).program.starts_at
    assert saved is not None
    assert before <= saved <= datetime.now(UTC)
    await end(owner, tenant.shop_id, first["id"], state="cancelled")
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    wanted = {"kind": "orders", "since": "2025-06-01T00:00:00Z", "earn_from": moment.isoformat()}
    found = (await client.post(PATH, headers=merchant(tenant), json=wanted)).json()
    assert found["since"] == "2025-06-01T00:00:00Z"
    assert (await read_program(owner, tenant.shop_id)).program.starts_at == moment


async def test_an_import_that_goes_on_is_not_changed_by_asking_for_it_otherwise(
    client: httpx.AsyncClient, owner: SessionConnection, tenant: Tenant
) -> None:
    await client.post(PATH, headers=merchant(tenant), json={"kind": "orders"})
    before = await read_program(owner, tenant.shop_id)
    await client.post(PATH, headers=merchant(tenant), json={"kind": "orders", "earn_from": "2020-01-01T00:00:00Z"})
    assert await read_program(owner, tenant.shop_id) == before


async def test_what_makes_no_sense_is_refused_in_words(client: httpx.AsyncClient, tenant: Tenant) -> None:
    ahead = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    for body, code in (
        ({}, "request.invalid"),
        ({"kind": "products"}, "request.invalid"),
        ({"kind": "orders", "until": ahead}, "request.invalid"),
        ({"kind": "orders", "since": "2026-01-01T00:00:00"}, "request.invalid"),
        ({"kind": "orders", "since": ahead}, "request.refused"),
        ({"kind": "customers", "earn_from": "2026-01-01T00:00:00Z"}, "request.refused"),
    ):
        answer = await client.post(PATH, headers=merchant(tenant), json=body)
        assert (answer.status_code, answer.json()["code"]) == (400, code), body
    assert (await client.get(PATH, headers=merchant(tenant))).json() == {"items": []}


async def test_another_shops_import_is_not_there(
    client: httpx.AsyncClient, tenant: Tenant, other_tenant: Tenant
) -> None:
    theirs = (await client.post(PATH, headers=merchant(other_tenant), json={"kind": "customers"})).json()
    assert (await client.get(PATH, headers=merchant(tenant))).json() == {"items": []}
    answer = await client.delete(f"{PATH}/{theirs['id']}", headers=merchant(tenant))
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    (left,) = (await client.get(PATH, headers=merchant(other_tenant))).json()["items"]
    assert left["state"] == "waiting"
    assert (await client.get(PATH)).status_code == 401
