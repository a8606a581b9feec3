"""Faults of the Admin API on demand, and webhooks that are lost."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator

import httpx
import pytest
from pydantic import ValidationError

from sellflow.simulator.graphql.faults import ApiFault, FaultPlan
from tests.simulator.conftest import DOMAIN, RegisterShop
from tests.simulator.receiver import Receiver

from .conftest import ADJUST, PATH, Admin, Json, Stock, codes

SHOP = "query Look { shop { id } }"


async def test_next_calls_are_refused_with_a_time_to_wait(admin: Admin) -> None:
    await admin.control("POST", "admin-api/faults", kind="too_many_requests", next=2, retry_after=1.5)
    answers = [await admin.call(SHOP) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [429, 429, 200]
    assert answers[0].headers["Retry-After"] == "1.5"
    assert (await admin.counts())["failed"] == 2


@pytest.mark.parametrize(("kind", "effects"), [("error_before", 0), ("error_during", 0), ("error_after", 1)])
async def test_an_error_comes_before_or_after_the_effect(stock: Stock, kind: str, effects: int) -> None:
    before = await stock.available()
    await stock.admin.control(
        "POST", "admin-api/faults", kind=kind, next=1, status=502, operation="inventoryAdjustQuantities"
    )
    answer = await stock.admin.call(ADJUST, {"input": stock.change(1), "key": "one"})

    assert answer.status_code == 502
    assert await stock.available() == before + effects


@pytest.mark.parametrize("kind", ["error_before", "error_after"])
async def test_the_same_key_settles_an_unknown_outcome(stock: Stock, kind: str) -> None:
    before = await stock.available()
    await stock.admin.control("POST", "admin-api/faults", kind=kind, next=1)
    await stock.admin.call(ADJUST, {"input": stock.change(1), "key": "one"})

    assert codes(await stock.adjust("one", 1)) == []
    assert await stock.available() == before + 1


async def test_a_call_is_throttled_on_demand_although_the_bucket_is_full(admin: Admin) -> None:
    await admin.control("POST", "admin-api/faults", kind="throttled", next=1)

    assert (await admin.error(SHOP))["extensions"]["code"] == "THROTTLED"
    assert (await admin.counts())["throttled"] == 1


async def test_an_operation_is_meant_by_its_name_or_by_its_root_field(admin: Admin) -> None:
    await admin.control("POST", "admin-api/faults", kind="error_before", next=1, operation="Look")
    await admin.control("POST", "admin-api/faults", kind="error_before", next=1, operation="locations")
    statuses = [
        (await admin.call(text)).status_code
        for text in ("{ shop { id } }", SHOP, "{ locations(first: 1) { nodes { id } } }", SHOP)
    ]

    assert statuses == [200, 503, 503, 200]


async def test_latency_is_slept_through(admin: Admin) -> None:
    await admin.control("POST", "admin-api/faults", kind="latency", seconds=0.05, next=1)
    await admin.call(SHOP)
    (call,) = (await admin.api.get(f"/shops/{DOMAIN}/admin-api/calls")).text.splitlines()

    assert json.loads(call)["seconds"] >= 0.05


async def test_faults_are_listed_and_cleared(admin: Admin) -> None:
    await admin.control("POST", "admin-api/faults", kind="throttled", next=3)
    await admin.call(SHOP)
    left = (await admin.control("GET", "admin-api"))["faults"]
    await admin.control("DELETE", "admin-api/faults")

    assert [(fault["kind"], fault["next"]) for fault in left] == [("throttled", 2)]
    assert (await admin.call(SHOP)).json()["data"]["shop"]["id"]


def test_a_share_of_faults_is_the_same_for_the_same_seed() -> None:
    def struck(seed: int) -> list[bool]:
        plan = FaultPlan()
        plan.add(ApiFault(kind="throttled", probability=0.3, seed=seed))
        return [bool(plan.draw(["Any"])) for _ in range(50)]

    assert struck(1) == struck(1) != struck(2)
    rng = random.Random(1)
    assert struck(1) == [rng.random() < 0.3 for _ in range(50)]


@pytest.mark.parametrize("fields", [{}, {"next": 1, "probability": 0.5}, {"next": 0}, {"probability": 2}])
def test_a_fault_says_how_often_it_strikes(fields: Json) -> None:
    with pytest.raises(ValidationError):
        ApiFault(kind="throttled", **fields)


@pytest.fixture
async def over_sockets(base_url: str) -> AsyncIterator[tuple[httpx.AsyncClient, str]]:
    """Give a client of a simulator under uvicorn, and a token."""
    async with httpx.AsyncClient(base_url=base_url, timeout=20) as client:
        shop = {"webhook_url": "http://127.0.0.1:1/nobody", "client_secret": "hush", "products": 2, "customers": 1}
        assert (await client.put(f"/shops/{DOMAIN}", json=shop)).status_code == 200
        minted = await client.post(f"/shops/{DOMAIN}/access-token", json={"scopes": []})
        yield client, minted.json()["access_token"]


@pytest.mark.parametrize(("kind", "tagged"), [("drop_before", []), ("drop_after", ["vip"])])
async def test_a_connection_breaks_before_or_after_the_effect(
    over_sockets: tuple[httpx.AsyncClient, str], kind: str, tagged: list[str]
) -> None:
    client, token = over_sockets
    headers = {"X-Shopify-Access-Token": token}
    (customer,) = (await client.get(f"/shops/{DOMAIN}/customers")).json()["customers"]
    identifier = customer["admin_graphql_api_id"]
    await client.post(f"/shops/{DOMAIN}/admin-api/faults", json={"kind": kind, "next": 1})
    tag = 'mutation ($id: ID!) { tagsAdd(id: $id, tags: ["vip"]) { userErrors { message } } }'
    with pytest.raises(httpx.RemoteProtocolError):
        await client.post(PATH, json={"query": tag, "variables": {"id": identifier}}, headers=headers)
    look = "query ($id: ID!) { customer(id: $id) { tags } }"
    answer = await client.post(PATH, json={"query": look, "variables": {"id": identifier}}, headers=headers)

    assert answer.json()["data"]["customer"]["tags"] == tagged
    counts = (await client.get(f"/shops/{DOMAIN}/admin-api")).json()["counts"]
    assert (counts["dropped"], counts["answered"]) == (1, 1)


async def lost_topics(admin: Admin, **faults: object) -> list[bool]:
    await admin.control("PUT", "webhook-faults", **faults)
    for _ in range(10):
        await admin.place()
    lines = (await admin.api.get(f"/shops/{DOMAIN}/sent")).text.splitlines()
    return [json.loads(line)["outcome"] == "lost" for line in lines]


async def test_a_share_of_a_shops_webhooks_is_never_sent(admin: Admin, receiver: Receiver) -> None:
    lost = await lost_topics(admin, lose=0.5)

    assert 0 < sum(lost) < len(lost) == 20
    await receiver.wait_for(20 - sum(lost))
    await lost_topics(admin)
    await receiver.wait_for(40 - sum(lost))


async def test_the_same_webhooks_are_lost_for_the_same_seed(
    api: httpx.AsyncClient, admin: Admin, register: RegisterShop
) -> None:
    async def lost(domain: str) -> list[bool]:
        await register(domain, seed=7)
        await api.put(f"/shops/{domain}/webhook-faults", json={"lose": 0.5})
        for _ in range(8):
            await api.post(f"/shops/{domain}/orders", json={})
        lines = (await api.get(f"/shops/{domain}/sent")).text.splitlines()
        return [json.loads(line)["outcome"] == "lost" for line in lines]

    assert await lost("one-shop.myshopify.com") == await lost("two-shop.myshopify.com")


async def test_a_run_loses_webhooks_as_its_shop_does_unless_it_says_otherwise(admin: Admin) -> None:
    await admin.control("PUT", "webhook-faults", lose=1)
    started = await admin.control("POST", "runs", 202, count=3, seed=1)
    own = await admin.control("POST", "runs", 202, count=3, seed=1, faults={"duplicate": 0.001})
    runs = admin.simulator.runs
    await runs[started["run_id"]].finished()
    await runs[own["run_id"]].finished()
    lost = [runs[one["run_id"]].status().webhooks.lost for one in (started, own)]

    assert lost[0] == runs[started["run_id"]].status().webhooks.meant > 0
    assert lost[1] == 0
