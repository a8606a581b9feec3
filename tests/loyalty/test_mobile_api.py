"""The mobile API on a socket: a customer sees their own points, all of them, and nobody else's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from sellflow.edge.customer_tokens import CustomerSession, issue_token
from sellflow.postgres.database import Database, SessionConnection
from tests.conftest import Tenant, vault_beside
from tests.edge.serving import serving
from tests.loyalty.conftest import Store
from tests.loyalty.orders import order, refund

BALANCE = "/v1/loyalty"
HISTORY = "/v1/loyalty/history"


async def bearer(owner: SessionConnection, tenant: Tenant, customer: int = 7) -> dict[str, str]:
    token = await issue_token(owner, await vault_beside(owner), CustomerSession(tenant.shop_id, customer), ttl=600)
    return {"Authorization": f"Bearer {token}"}


async def pages(client: httpx.AsyncClient, headers: dict[str, str], limit: int) -> AsyncIterator[list[dict[str, Any]]]:
    cursor = None
    while True:
        parameters = {"limit": limit} | ({"cursor": cursor} if cursor else {})
        answer = await client.get(HISTORY, params=parameters, headers=headers)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        yield page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return


async def test_a_customer_sees_balance_and_history(
    client: httpx.AsyncClient, store: Store, owner: SessionConnection, tenant: Tenant
) -> None:
    await store.hear(tenant, ("orders/paid", order()))
    await store.hear(tenant, ("refunds/create", refund()))
    headers = await bearer(owner, tenant)
    assert (await client.get(BALANCE, headers=headers)).json() == {"balance": 15, "pending": 0, "tier": None}
    history = (await client.get(HISTORY, headers=headers)).json()
    assert history["next_cursor"] is None
    shown = [(each["kind"], each["points"], each["balance_after"], each["source"]) for each in history["items"]]
    source = {"type": "order", "id": 1001, "name": "#1001"}
    assert shown == [("clawback", -10, 15, source), ("earn", 25, 25, source)]


async def test_who_never_bought_anything_has_nothing(
    client: httpx.AsyncClient, owner: SessionConnection, tenant: Tenant
) -> None:
    headers = await bearer(owner, tenant, customer=999)
    assert (await client.get(BALANCE, headers=headers)).json()["balance"] == 0
    assert (await client.get(HISTORY, headers=headers)).json() == {"items": [], "next_cursor": None}


async def test_pages_are_whole_and_do_not_overlap_while_new_movements_arrive(
    client: httpx.AsyncClient, store: Store, owner: SessionConnection, tenant: Tenant
) -> None:
    await store.hear(tenant, *(("orders/paid", order(number)) for number in range(1, 12)))
    headers = await bearer(owner, tenant)
    seen: list[dict[str, Any]] = []
    async for page in pages(client, headers, limit=3):
        seen += page
        await store.hear(tenant, ("orders/paid", order(100 + len(seen))))
    assert sorted(each["source"]["id"] for each in seen) == list(range(1, 12))
    assert [each["id"] for each in seen] == sorted((each["id"] for each in seen), reverse=True)
    # Newest first: each balance is the one below it and the points between.
    for newer, older in pairwise(seen):
        assert newer["balance_after"] == older["balance_after"] + newer["points"]


@pytest.mark.parametrize("limit", [1, 4, 5, 100])
async def test_the_last_page_says_that_it_is_the_last(
    client: httpx.AsyncClient, store: Store, owner: SessionConnection, tenant: Tenant, limit: int
) -> None:
    await store.hear(tenant, *(("orders/paid", order(number)) for number in range(1, 6)))
    sizes = [len(page) async for page in pages(client, await bearer(owner, tenant), limit)]
    assert sizes == {1: [1] * 5, 4: [4, 1], 5: [5], 100: [5]}[limit]


async def test_a_token_shows_its_own_shop_and_customer_alone(
    client: httpx.AsyncClient, store: Store, owner: SessionConnection, tenant: Tenant, other_tenant: Tenant
) -> None:
    await store.hear(tenant, ("orders/paid", order(1)))
    await store.hear(other_tenant, ("orders/paid", order(2, subtotal="4.00")))
    nobody = CustomerSession(shop_id=10**6, customer_id=7)
    unknown = {"authorization": f"Bearer {await issue_token(owner, await vault_beside(owner), nobody, ttl=600)}"}
    for headers, balance in (
        (await bearer(owner, tenant), 25),
        (await bearer(owner, other_tenant), 4),
        (await bearer(owner, tenant, customer=8), 0),
        (unknown, 0),
    ):
        assert (await client.get(BALANCE, headers=headers)).json()["balance"] == balance
        items = (await client.get(HISTORY, headers=headers)).json()["items"]
        assert [each["points"] for each in items] == ([balance] if balance else [])


async def test_whoever_has_no_token_is_told_how_to_get_in(client: httpx.AsyncClient, tenant: Tenant) -> None:
    for headers, code in (
        ({}, "auth.missing_token"),
        ({"authorization": "Basic YTpi"}, "auth.missing_token"),
        ({"authorization": "Bearer rubbish"}, "auth.invalid_token"),
    ):
        for path in (BALANCE, HISTORY):
            answer = await client.get(path, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (401, code)
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_wrong_parameters_are_problems(
    client: httpx.AsyncClient, owner: SessionConnection, tenant: Tenant
) -> None:
    headers = await bearer(owner, tenant)
    for query, code in (
        ("limit=0", "request.invalid"),
        ("limit=101", "request.invalid"),
        ("limit=many", "request.invalid"),
        (f"cursor={'A' * 65}", "request.invalid"),
        ("cursor=rubbish", "request.invalid_cursor"),
        ("cursor=%00", "request.invalid_cursor"),
        ("cursor=%C3%A9", "request.invalid_cursor"),
    ):
        answer = await client.get(f"{HISTORY}?{query}", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (400, code), query
        assert answer.headers["content-type"] == "application/problem+json"


async def test_the_openapi_document_describes_what_is_served(client: httpx.AsyncClient, tenant: Tenant) -> None:
    document = (await client.get("/openapi.json")).json()
    assert {BALANCE, HISTORY} <= set(document["paths"])
    schemathesis.openapi.from_dict(document).validate()
    for path in (document["paths"][BALANCE], document["paths"][HISTORY]):
        for operation in path.values():
            assert "422" not in operation["responses"]
            assert operation["security"]


async def test_generated_requests_find_nothing_that_the_document_does_not_promise(
    database: Database, store: Store, owner: SessionConnection, tenant: Tenant
) -> None:
    await store.hear(tenant, *(("orders/paid", order(number)) for number in range(1, 6)))
    headers = await bearer(owner, tenant)
    async with serving(database) as client:
        document = (await client.get("/openapi.json")).json()
        # It calls from threads of its own while the server runs on this loop.
        await asyncio.to_thread(_generate_requests, document, str(client.base_url), headers)


def _generate_requests(document: dict[str, Any], base_url: str, headers: dict[str, str]) -> None:
    """Send generated requests for each operation and hold each answer against the document."""
    schema = schemathesis.openapi.from_dict(document)
    for path in (BALANCE, HISTORY):
        operation = schema[path]["GET"]

        @settings(max_examples=40, database=None, deadline=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy())
        def answers_as_promised(case: Any) -> None:  # noqa: ANN401 - theirs
            # No schema can say which cursors are ours, so a well-formed request may be refused.
            case.call_and_validate(base_url=base_url, headers=headers, excluded_checks=[positive_data_acceptance])

        answers_as_promised()
