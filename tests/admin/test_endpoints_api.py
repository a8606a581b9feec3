"""Endpoints by HTTP: a merchant's are of the own shop and public; a service's secrets are not shown around."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook

from sellflow.postgres.database import SessionConnection
from tests.conftest import Tenant
from tests.edge.callers import merchant, service
from tests.edge.serving import serving
from tests.queue.outgoing.conftest import Outgoing
from tests.queue.outgoing.conftest import outgoing as outgoing  # noqa: PLC0414 - a fixture
from tests.queue.outgoing.conftest import receiver as receiver  # noqa: PLC0414 - a fixture
from tests.queue.outgoing.receiver import Receiver

MERCHANT, SERVICE = "/admin/api/endpoints", "/v1/endpoints"
URL = "https://shop.example/hooks"


@pytest.fixture
async def served(outgoing: Outgoing) -> AsyncIterator[httpx.AsyncClient]:
    """The web role where loopback is open to endpoints of services."""
    async with serving(outgoing.database) as found:
        yield found


async def added(client: httpx.AsyncClient, path: str, headers: dict[str, str], **wanted: object) -> dict[str, Any]:
    answer = await client.post(path, headers=headers, json={"address": URL, "topics": ["loyalty.#"]} | wanted)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_a_merchant_adds_an_endpoint_whose_secret_is_shown_once(
    client: httpx.AsyncClient, owner: SessionConnection, tenant: Tenant
) -> None:
    headers = merchant(tenant)
    made = await added(client, MERCHANT, headers, description="our CRM")
    assert made["secret"].startswith("whsec_")
    assert (made["of_shop"], made["state"], made["topics"]) == (True, "active", ["loyalty.#"])
    listed = await client.get(MERCHANT, headers=headers)
    shown = await client.get(f"{MERCHANT}/{made['id']}", headers=headers)
    assert [each["id"] for each in listed.json()["items"]] == [made["id"]]
    assert (shown.json()["description"], shown.json()["deliveries"]) == ("our CRM", {})
    assert made["secret"] not in listed.text + shown.text
    bound = "SELECT count(*) FROM pgmq.topic_bindings WHERE queue_name = 'outgoing' AND pattern LIKE 'loyalty.%'"
    assert await owner.fetchval(bound) > 0
    again = await client.post(MERCHANT, headers=headers, json={"address": URL, "topics": ["#"]})
    assert (again.status_code, again.json()["code"]) == (400, "request.refused")
    assert "sellflow" not in again.json()["detail"]


async def test_a_merchant_reaches_no_endpoint_of_others(
    client: httpx.AsyncClient, owner: SessionConnection, tenant: Tenant, other_tenant: Tenant
) -> None:
    foreign = await added(client, MERCHANT, merchant(other_tenant))
    services = await added(client, SERVICE, await service(owner, "endpoints:write"))
    headers = merchant(tenant)
    assert (await client.get(MERCHANT, headers=headers)).json() == {"items": []}
    for found in (foreign["id"], services["id"], 2**63 - 1):
        path = f"{MERCHANT}/{found}"
        for method, route, body in (
            ("GET", path, None),
            ("POST", f"{path}/pause", {}),
            ("POST", f"{path}/resume", None),
            ("POST", f"{path}/rotate", {}),
            ("POST", f"{path}/tests", None),
            ("GET", f"{path}/tests/1~test:1:2026", None),
            ("DELETE", path, None),
            ("GET", f"{path}/deliveries", None),
            ("GET", f"{path}/deliveries/1", None),
            ("POST", f"{path}/deliveries/replay", {"delivery_id": 1}),
        ):
            answer = await client.request(method, route, headers=headers, json=body)
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), (method, route)
    assert [row["state"] for row in await owner.fetch("SELECT state FROM endpoints")] == ["active", "active"]


async def test_a_merchant_s_address_is_public_whatever_the_operator_opened(
    served: httpx.AsyncClient, owner: SessionConnection, tenant: Tenant
) -> None:
    for address in (
        "http://127.0.0.1/x",
        "https://127.0.0.1/x",
        "https://10.0.0.1/",
        "https://[::1]/",
        "http://a.example/",
        "ftp://a.example",
        "https://user@a.example/",
        "arn:aws:sns:eu-west-1:123456789012:topic",
    ):
        answer = await served.post(MERCHANT, headers=merchant(tenant), json={"address": address, "topics": ["#"]})
        assert (answer.status_code, answer.json()["code"]) == (400, "request.refused"), address
        assert "SELLFLOW_" not in answer.json()["detail"]
    await added(served, SERVICE, await service(owner, "endpoints:write"), address="https://127.0.0.1/x")


async def test_a_service_of_the_installation_adds_for_a_shop_or_for_all(
    client: httpx.AsyncClient, owner: SessionConnection, tenant: Tenant, other_tenant: Tenant
) -> None:
    of_all = await service(owner, "endpoints:write", "endpoints:read")
    of_one = await service(owner, "endpoints:write", "endpoints:read", shop_id=tenant.shop_id)
    for_all = await added(client, SERVICE, of_all)
    for_one = await added(client, SERVICE, of_all, shop=tenant.shop.domain)
    assert (for_all["of_shop"], for_one["of_shop"]) == (False, True)
    assert [each["id"] for each in (await client.get(SERVICE, headers=of_one)).json()["items"]] == [for_one["id"]]
    foreign = {"address": URL, "topics": ["#"], "shop": other_tenant.shop.domain}
    assert (await client.post(SERVICE, headers=of_one, json=foreign)).status_code == 404
    assert (await client.post(SERVICE, headers=of_all, json=foreign | {"shop": "no.one"})).status_code == 404
    reader = await service(owner, "endpoints:read")
    assert (await client.post(SERVICE, headers=reader, json=foreign)).status_code == 403


async def test_an_endpoint_is_paused_resumed_rotated_and_removed(
    client: httpx.AsyncClient, owner: SessionConnection, tenant: Tenant
) -> None:
    headers = merchant(tenant)
    made = await added(client, MERCHANT, headers)
    path = f"{MERCHANT}/{made['id']}"
    paused = (await client.post(f"{path}/pause", headers=headers, json={"reason": "moving"})).json()
    assert (paused["state"], paused["pause_reason"]) == ("paused", "moving")
    assert (await client.post(f"{path}/resume", headers=headers)).json() == {"sent": 0}
    rotated = (await client.post(f"{path}/rotate", headers=headers, json={"overlap_hours": 1})).json()
    assert rotated["secret"] not in ("", made["secret"])
    assert await owner.fetchval("SELECT count(*) FROM endpoint_secrets") == 2
    assert (await client.delete(path, headers=headers)).status_code == 204
    assert await owner.fetchval("SELECT count(*) FROM endpoint_secrets") == 0
    assert (await client.get(path, headers=headers)).status_code == 404


async def test_deliveries_are_logged_sent_again_and_tested(
    served: httpx.AsyncClient, outgoing: Outgoing, owner: SessionConnection, receiver: Receiver, tenant: Tenant
) -> None:
    headers = await service(owner, "endpoints:write", "endpoints:read")
    made = await added(served, SERVICE, headers, address=receiver.url, shop=tenant.shop.domain)
    path = f"{SERVICE}/{made['id']}"
    await outgoing.emit("first", "second")
    await outgoing.deliver()
    page = (await served.get(f"{path}/deliveries", headers=headers, params={"limit": 1})).json()
    rest = await served.get(f"{path}/deliveries", headers=headers, params={"cursor": page["next_cursor"]})
    assert [each["state"] for each in page["items"] + rest.json()["items"]] == ["delivered", "delivered"]
    newest = page["items"][0]["id"]
    (attempt,) = (await served.get(f"{path}/deliveries/{newest}", headers=headers)).json()["items"]
    assert attempt["error_code"] is None
    again = {"delivery_id": newest}
    assert (await served.post(f"{path}/deliveries/replay", headers=headers, json=again)).json() == {"sent": 1}
    assert (await served.post(f"{path}/deliveries/replay", headers=headers, json=again)).json() == {"sent": 0}
    started = await served.post(f"{path}/tests", headers=headers)
    assert started.status_code == 202
    result = f"{path}/tests/{started.json()['test_id']}"
    assert (await served.get(result, headers=headers)).json()["state"] == "pending"
    await outgoing.deliver()
    assert (await served.get(result, headers=headers)).json()["state"] == "delivered"
    assert len(receiver.requests) == 4
    last = receiver.requests[-1]
    Webhook(made["secret"]).verify(last.body, last.headers)
    # The merchant sees the same log, as it is the shop's endpoint, and nothing of another shop's test.
    own = (await served.get(f"{MERCHANT}/{made['id']}/deliveries", headers=merchant(tenant))).json()
    assert len(own["items"]) == 3
    assert (await served.get(f"{path}/tests/nonsense", headers=headers)).status_code == 404
