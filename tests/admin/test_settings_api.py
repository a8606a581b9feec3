"""Shop settings and the queues by HTTP."""

from __future__ import annotations

import asyncio

import httpx
import orjson

from sellflow.postgres.database import SessionConnection
from tests.conftest import Tenant
from tests.edge.callers import USER, merchant, service

SETTINGS = "/admin/api/settings"


async def test_settings_begin_with_the_defaults_and_change_by_version(
    client: httpx.AsyncClient, owner: SessionConnection, tenant: Tenant, other_tenant: Tenant
) -> None:
    headers = merchant(tenant)
    first = await client.get(SETTINGS, headers=headers)
    assert (first.json()["storefront_domain"], first.headers["etag"]) == (None, '"v0"')
    changed = await client.patch(
        SETTINGS, headers=headers | {"if-match": '"v0"'}, json={"storefront_domain": "Shop.Example"}
    )
    assert (changed.json()["storefront_domain"], changed.headers["etag"]) == ("shop.example", '"v1"')
    stale = await client.patch(SETTINGS, headers=headers | {"if-match": '"v0"'}, json={"storefront_domain": None})
    assert (stale.status_code, stale.json()["code"]) == (412, "settings.changed")
    reset = await client.patch(SETTINGS, headers=headers | {"if-match": "*"}, json={"storefront_domain": None})
    assert (reset.json()["storefront_domain"], reset.headers["etag"]) == (None, '"v2"')
    same = await client.patch(SETTINGS, headers=headers | {"if-match": '"v2"'}, json={"storefront_domain": None})
    assert same.headers["etag"] == '"v2"', "nothing changed"
    rows = await owner.fetch("SELECT version, changes, changed_by FROM shop_settings_changes ORDER BY version")
    assert [(row["version"], orjson.loads(row["changes"]), row["changed_by"]) for row in rows] == [
        (1, {"storefront_domain": [None, "shop.example"]}, f"merchant:{USER}"),
        (2, {"storefront_domain": ["shop.example", None]}, f"merchant:{USER}"),
    ]
    assert (await client.get(SETTINGS, headers=merchant(other_tenant))).headers["etag"] == '"v0"'


async def test_what_is_no_setting_is_refused(client: httpx.AsyncClient, tenant: Tenant) -> None:
    headers = merchant(tenant) | {"if-match": "*"}
    for body in (
        {"odd": 1},
        {"storefront_domain": "127.0.0.1"},
        {"storefront_domain": "localhost"},
        {"storefront_domain": "shop.example:8080"},
        {"storefront_domain": "shop.example/path"},
        {"storefront_domain": "user@shop.example"},
        {"storefront_domain": "shop.example\n"},
        {"storefront_domain": ["shop.example"]},
        {"customer_account_client_id": "a b"},
        {"customer_account_client_id": ""},
    ):
        answer = await client.patch(SETTINGS, headers=headers, json=body)
        assert (answer.status_code, answer.json()["code"]) == (400, "request.invalid"), body
    for etag, status in ((None, 428), ("rubbish", 412), ('W/"v0"', 412), ('"v999999999"', 412)):
        sent = merchant(tenant) | ({"if-match": etag} if etag else {})
        assert (await client.patch(SETTINGS, headers=sent, json={})).status_code == status


async def test_of_two_changes_at_once_one_is_told_to_look_again(
    client: httpx.AsyncClient, owner: SessionConnection, tenant: Tenant
) -> None:
    headers = merchant(tenant) | {"if-match": '"v0"'}
    answers = await asyncio.gather(
        *(client.patch(SETTINGS, headers=headers, json={"storefront_domain": f"{n}.example"}) for n in range(10))
    )
    assert sorted(each.status_code for each in answers) == [200] + [412] * 9
    assert await owner.fetchval("SELECT count(*) FROM shop_settings_changes") == 1


async def test_queues_are_shown_to_services_of_the_installation(
    client: httpx.AsyncClient, owner: SessionConnection, tenant: Tenant
) -> None:
    await owner.execute(
        "INSERT INTO pauses (queue, shop_id, reason) VALUES ('loyalty', $1, 'a quarrel')", tenant.shop_id
    )
    answer = (await client.get("/v1/queues", headers=await service(owner, "queues:read"))).json()
    found = {each["queue"]: each for each in answer["queues"]}
    assert (found["loyalty"]["paused_shops"], found["loyalty"]["waiting"]) == (1, 0)
    assert [(each["shop"], each["reason"]) for each in answer["pauses"]] == [(tenant.shop.domain, "a quarrel")]
    of_one = await service(owner, "queues:read", shop_id=tenant.shop_id)
    refused = await client.get("/v1/queues", headers=of_one)
    assert (refused.status_code, refused.json()["code"]) == (403, "auth.not_installation")
