"""Dead letters by HTTP: merchants see and mend their own shop's, services what their keys say."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from sellflow.postgres.database import SessionConnection
from tests.admin.conftest import Failures
from tests.conftest import Tenant
from tests.edge.callers import USER, merchant, service

MERCHANT, SERVICE = "/admin/api/dead-letters", "/v1/dead-letters"


async def ids(client: httpx.AsyncClient, path: str, headers: dict[str, str], **query: object) -> list[int]:
    answer = await client.get(path, headers=headers, params=query)  # type: ignore[arg-type]
    assert answer.status_code == 200, answer.text
    return [each["id"] for each in answer.json()["items"]]


async def resolve(
    client: httpx.AsyncClient, path: str, headers: dict[str, str], **choice: object
) -> tuple[int, dict[str, Any]]:
    answer = await client.post(path, headers=headers, json=choice)
    return answer.status_code, answer.json()


async def test_a_merchant_sees_the_letters_of_the_own_shop_alone(
    client: httpx.AsyncClient, failures: Failures, tenant: Tenant, other_tenant: Tenant
) -> None:
    own, foreign = await failures.add(tenant), await failures.add(other_tenant)
    assert await ids(client, MERCHANT, merchant(tenant)) == [own]
    assert await ids(client, MERCHANT, merchant(other_tenant)) == [foreign]
    assert await ids(client, MERCHANT, merchant(tenant), shop=other_tenant.shop.domain) == []
    assert (await client.get(f"{MERCHANT}/{foreign}", headers=merchant(tenant))).status_code == 404


async def test_a_service_sees_every_shop_s_or_its_own(
    client: httpx.AsyncClient, failures: Failures, owner: SessionConnection, tenant: Tenant, other_tenant: Tenant
) -> None:
    first, second = await failures.add(tenant), await failures.add(other_tenant)
    of_all = await service(owner, "deadletters:read")
    of_one = await service(owner, "deadletters:read", shop_id=tenant.shop_id)
    assert await ids(client, SERVICE, of_all) == [second, first]
    assert await ids(client, SERVICE, of_all, shop=tenant.shop.domain) == [first]
    assert await ids(client, SERVICE, of_one) == [first]
    assert (await client.get(f"{SERVICE}/{second}", headers=of_one)).status_code == 404


async def test_letters_are_found_by_what_they_are_and_page_by_page(
    client: httpx.AsyncClient, failures: Failures, tenant: Tenant
) -> None:
    headers = merchant(tenant)
    first = await failures.add(tenant, key="order:1")
    second = await failures.add(tenant, key="order:2", code="payload.invalid", topic="shopify.refunds.create")
    third = await failures.add(tenant, queue="shops", key="'; DROP TABLE dead_letters; --")
    for query, found in (
        ({"key": "order:2"}, [second]),
        ({"code": "payload.invalid"}, [second]),
        ({"topic": "shopify.orders.#"}, [third, first]),
        ({"topic": "shopify.*"}, []),
        ({"queue": "shops"}, [third]),
        ({"handler": "earn", "until": "2100-01-01T00:00:00Z"}, [third, second, first]),
        ({"since": "2100-01-01T00:00:00Z"}, []),
        ({"state": "replayed"}, []),
        ({"key": "'; DROP TABLE dead_letters; --"}, [third]),
    ):
        assert await ids(client, MERCHANT, headers, **query) == found, query
    page = (await client.get(MERCHANT, headers=headers, params={"limit": 2})).json()
    assert [each["id"] for each in page["items"]] == [third, second]
    rest = await client.get(MERCHANT, headers=headers, params={"limit": 2, "cursor": page["next_cursor"]})
    assert ([each["id"] for each in rest.json()["items"]], rest.json()["next_cursor"]) == ([first], None)


async def test_a_story_has_attempts_and_event_and_a_trace_for_services_alone(
    client: httpx.AsyncClient, failures: Failures, owner: SessionConnection, tenant: Tenant
) -> None:
    letter = await failures.add(tenant)
    shown = (await client.get(f"{MERCHANT}/{letter}", headers=merchant(tenant))).json()
    assert (shown["payload"], len(shown["history"]), shown["stack_trace"]) == ('{\n  "id": 1\n}', 1, None)
    assert "_apply" not in str(shown)
    headers = await service(owner, "deadletters:read")
    assert "_apply" in (await client.get(f"{SERVICE}/{letter}", headers=headers)).json()["stack_trace"]


async def test_what_failed_of_a_service_s_endpoint_is_no_business_of_merchants(
    client: httpx.AsyncClient, failures: Failures, owner: SessionConnection, tenant: Tenant
) -> None:
    made = await owner.fetch(
        """
        WITH e AS (
            INSERT INTO endpoints (shop_id, kind, address, topics)
            VALUES (NULL, 'webhook', 'https://secret.internal/', '{#}'), ($1, 'webhook', 'https://shop.example/', '{#}')
            RETURNING endpoint_id, shop_id
        )
        INSERT INTO endpoint_deliveries (shop_id, endpoint_id, day, event_id, topic, state)
        SELECT $1, endpoint_id, '2026-01-01', 1, 'loyalty.points.earned', 'failed' FROM e ORDER BY shop_id NULLS FIRST
        RETURNING delivery_id
        """,
        tenant.shop_id,
    )
    services, own = (row["delivery_id"] for row in made)
    hidden = await failures.add(tenant, queue="outgoing_deliveries", key=f"delivery:{services}")
    fan_out = await failures.add(tenant, queue="outgoing")
    odd = await failures.add(tenant, queue="outgoing_deliveries", key="delivery:99999999999999999999999")
    shown = await failures.add(tenant, queue="outgoing_deliveries", key=f"delivery:{own}")
    of_one = await service(owner, "deadletters:read", shop_id=tenant.shop_id)
    assert await ids(client, MERCHANT, merchant(tenant)) == [shown]
    assert await ids(client, SERVICE, of_one) == [shown]
    status, answer = await resolve(client, f"{MERCHANT}/discard", merchant(tenant), ids=[hidden, fan_out, odd, shown])
    assert (status, answer["resolved"]) == (200, [shown])
    assert {each["code"] for each in answer["refused"]} == {"not_found"}
    for letter in (hidden, fan_out, odd):
        assert (await client.get(f"{MERCHANT}/{letter}", headers=merchant(tenant))).status_code == 404
    assert await ids(client, SERVICE, await service(owner, "deadletters:read")) == [odd, fan_out, hidden]


async def test_a_merchant_replays_and_discards_the_own_letters_and_no_other(
    client: httpx.AsyncClient, failures: Failures, owner: SessionConnection, tenant: Tenant, other_tenant: Tenant
) -> None:
    first, second = await failures.add(tenant), await failures.add(tenant)
    foreign = await failures.add(other_tenant)
    headers = merchant(tenant)
    status, answer = await resolve(client, f"{MERCHANT}/replay", headers, ids=[first, foreign], reason="mended")
    assert (status, answer["resolved"], answer["refused"][0]["code"]) == (200, [first], "not_found")
    assert await failures.waiting() == 1
    assert (await resolve(client, f"{MERCHANT}/discard", headers, all=True))[1]["resolved"] == [second]
    assert await failures.states() == {first: "replayed", second: "discarded", foreign: "waiting"}
    row = await owner.fetchrow("SELECT resolved_by, reason FROM dead_letters WHERE dead_letter_id = $1", first)
    assert row is not None
    assert tuple(row) == (f"merchant:{USER}", "mended")
    again = (await resolve(client, f"{MERCHANT}/replay", headers, ids=[first]))[1]
    assert (again["resolved"], again["refused"][0]["code"]) == ([], "dead_letter.resolved")
    assert await failures.waiting() == 1


async def test_many_are_replayed_some_at_a_time(
    client: httpx.AsyncClient, failures: Failures, owner: SessionConnection, tenant: Tenant, other_tenant: Tenant
) -> None:
    made = [await failures.add(each) for each in (tenant, other_tenant) * 3]
    await failures.add(tenant, code="payload.invalid")
    headers = await service(owner, "deadletters:write")
    choice: dict[str, Any] = {"filter": {"code": "lab.hopeless"}, "limit": 4}
    _, first = await resolve(client, f"{SERVICE}/replay", headers, **choice)
    assert (first["resolved"], first["remaining"]) == (made[:4], 2)
    _, second = await resolve(client, f"{SERVICE}/replay", headers, **choice, cursor=first["next_cursor"])
    assert (second["resolved"], second["remaining"], second["next_cursor"]) == (made[4:], 0, None)
    assert await failures.waiting() == 6


async def test_nobody_means_all_by_leaving_everything_out(client: httpx.AsyncClient, tenant: Tenant) -> None:
    choices: list[dict[str, object]] = [
        {},
        {"filter": {}},
        {"ids": []},
        {"ids": [1], "all": True},
        {"ids": [0]},
        {"ids": [2**63]},
        {"filter": {"queue": "x\0"}},
        {"filter": {"nothing": 1}},
        {"all": True, "limit": 201},
        {"all": True, "reason": "x" * 501},
        {"filter": {"since": "0001-01-01T00:00:00+14:00"}},
    ]
    for choice in choices:
        status, answer = await resolve(client, f"{MERCHANT}/replay", merchant(tenant), **choice)
        assert (status, answer["code"]) == (400, "request.invalid"), choice


@pytest.mark.parametrize("query", ["topic=(", "limit=0", "cursor=x", "state=odd", "key=%00", "odd=1", "since=soon"])
async def test_wrong_parameters_are_problems(client: httpx.AsyncClient, tenant: Tenant, query: str) -> None:
    assert (await client.get(f"{MERCHANT}?{query}", headers=merchant(tenant))).status_code == 400
