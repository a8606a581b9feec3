"""Calls to a Shopify that answers, fails, stalls, lies and drops."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sellflow.postgres.database import SessionConnection
from sellflow.shopify.admin.client import AdminClient
from sellflow.shopify.admin.errors import (
    AccessDeniedError,
    AdminError,
    NoAnswerError,
    NoConnectionError,
    QueryRefusedError,
    RedirectedError,
    ShopClosedError,
    TooExpensiveError,
    UnauthorizedError,
    UnavailableError,
    UnexpectedAnswerError,
)
from sellflow.shopify.admin.throttle import Urgency
from sellflow.shopify.documents.installation import SHOP
from sellflow.shopify.documents.inventory import INVENTORY_ADJUST
from tests.conftest import Tenant
from tests.shopify.admin.conftest import SHOP_ANSWER, FixedTokens
from tests.shopify.admin.shopify_server import Shopify, Step, answers, drops, error, says, stalls

THROTTLED = error("THROTTLED", "Throttled")


async def bucket(owner: SessionConnection) -> dict[str, Any]:
    row = await owner.fetchrow("SELECT * FROM admin_buckets")
    assert row is not None
    return dict(row)


async def test_a_query_is_sent_as_shopify_wants_it_and_read_into_its_model(
    client: AdminClient, shopify: Shopify, tenant: Tenant
) -> None:
    found = await client.fetch(tenant.shop_id, SHOP)
    assert found.shop.myshopify_domain == "acme.myshopify.com"
    [asked] = shopify.asked
    assert asked.path == "/admin/api/2026-10/graphql.json"
    assert asked.headers["x-shopify-access-token"] == "shpat_0"
    assert asked.headers["content-type"] == "application/json"
    assert asked.query == SHOP.text


async def test_what_a_call_cost_and_what_is_left_is_booked(
    client: AdminClient, shopify: Shopify, tenant: Tenant, owner: SessionConnection
) -> None:
    shopify.bucket.maximum, shopify.bucket.rate, shopify.actual = 2000.0, 200.0, 3.0
    await client.fetch(tenant.shop_id, SHOP)
    books = await bucket(owner)
    assert (books["maximum"], books["restore_rate"], books["spent"]) == (2000.0, 200.0, 3.0)
    assert books["is_known"]
    assert json.loads(books["in_flight"]) == {}
    assert books["level"] == pytest.approx(shopify.bucket.level, abs=60)


@pytest.mark.parametrize(
    "step",
    [
        answers(None, THROTTLED),
        answers({"shop": None}, THROTTLED),
        says(429, "", retry_after="0"),
        says(500, "oops"),
        says(502, "<html>bad gateway</html>", content_type="text/html"),
        says(200, "<html>We will be back</html>", content_type="text/html"),
        says(200, ""),
        says(200, "[]"),
        says(200, '{"data": null}'),
        says(200, '{"data": {"shop":'),
        answers(None, error("INTERNAL_SERVER_ERROR")),
        drops,
    ],
    ids=lambda step: "",
)
async def test_a_query_that_failed_for_a_moment_is_asked_again(
    client: AdminClient, shopify: Shopify, tenant: Tenant, step: Step
) -> None:
    shopify.script.append(step)
    assert (await client.fetch(tenant.shop_id, SHOP)).shop.name == "Acme"
    assert len(shopify.asked) == 2


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (says(402), (ShopClosedError, "frozen")),
        (says(404), (ShopClosedError, "no such shop")),
        (says(423), (ShopClosedError, "locked")),
        (says(403), (AdminError, "403")),
        (says(301, "", location="https://elsewhere.example/"), (RedirectedError, "points elsewhere")),
        (says(400, "{}"), (AdminError, "400")),
        (answers(None, error("", "Field 'x' doesn't exist")), (QueryRefusedError, "Field 'x' doesn't exist")),
        (says(200, '{"errors": "[API] just words"}'), (QueryRefusedError, "just words")),
        (answers({"shop": None}, error("ACCESS_DENIED", "read_orders")), (AccessDeniedError, "read_orders")),
        (answers(None, error("MAX_COST_EXCEEDED")), (TooExpensiveError, "refuses the query")),
        (answers(None, error("SHOP_INACTIVE")), (ShopClosedError, "inactive")),
        (answers({"shop": {"id": 1}}), (UnexpectedAnswerError, "shop.name")),
    ],
)
async def test_a_refusal_has_its_class_and_is_asked_once(
    client: AdminClient, shopify: Shopify, tenant: Tenant, step: Step, expected: tuple[type[AdminError], str]
) -> None:
    kind, words = expected
    shopify.script.append(step)
    with pytest.raises(kind, match=words):
        await client.fetch(tenant.shop_id, SHOP)
    assert len(shopify.asked) == 1


async def test_a_redirect_is_not_followed_with_the_token(client: AdminClient, shopify: Shopify, tenant: Tenant) -> None:
    shopify.script.append(says(307, "", location=f"{shopify.url}/elsewhere"))
    with pytest.raises(RedirectedError):
        await client.fetch(tenant.shop_id, SHOP)
    assert [each.path for each in shopify.asked] == ["/admin/api/2026-10/graphql.json"]


async def test_a_refused_token_is_renewed_once(
    client: AdminClient, shopify: Shopify, tokens: FixedTokens, tenant: Tenant
) -> None:
    shopify.script.append(says(401))
    await client.fetch(tenant.shop_id, SHOP)
    assert tokens.refused == ["shpat_0"]
    assert [each.headers["x-shopify-access-token"] for each in shopify.asked] == ["shpat_0", "shpat_1"]
    shopify.script.extend([says(401), says(401)])
    with pytest.raises(UnauthorizedError):
        await client.fetch(tenant.shop_id, SHOP)
    assert len(tokens.refused) == 2


async def test_a_call_that_gets_no_answer_is_given_up_in_time(
    client: AdminClient, shopify: Shopify, tenant: Tenant, owner: SessionConnection
) -> None:
    shopify.script.extend([stalls, stalls])
    with pytest.raises(NoAnswerError, match="within 2 s"):
        await client.fetch(tenant.shop_id, SHOP, urgency=Urgency.FOREGROUND)
    # The server may have spent the points, and they stay spent here.
    assert (await bucket(owner))["spent"] > 0


async def test_a_shopify_that_is_away_is_left_alone_after_several_failures_and_found_again_by_one_call(
    client: AdminClient, shopify: Shopify, tenant: Tenant, owner: SessionConnection
) -> None:
    shopify.script.extend([says(503)] * 8)
    with pytest.raises(AdminError):
        await client.fetch(tenant.shop_id, SHOP)
    with pytest.raises(AdminError):
        await client.fetch(tenant.shop_id, SHOP)
    books = await bucket(owner)
    assert books["failures"] >= 5
    await owner.execute("UPDATE admin_buckets SET closed_until = clock_timestamp() + interval '1 hour'")
    asked = len(shopify.asked)
    with pytest.raises(UnavailableError) as raised:
        await client.fetch(tenant.shop_id, SHOP)
    assert raised.value.seconds > 3000
    assert len(shopify.asked) == asked
    shopify.script.clear()
    await owner.execute("UPDATE admin_buckets SET closed_until = clock_timestamp() - interval '1 second'")
    await client.fetch(tenant.shop_id, SHOP)
    books = await bucket(owner)
    assert (books["failures"], books["closed_until"]) == (0, None)


async def test_a_shop_without_a_connection_is_no_mystery(
    client: AdminClient, shopify: Shopify, tokens: FixedTokens, tenant: Tenant, owner: SessionConnection
) -> None:
    tokens.base_url = "http://127.0.0.1:1"
    with pytest.raises(NoConnectionError):
        await client.fetch(tenant.shop_id, SHOP)
    assert (await bucket(owner))["spent"] == 0


async def test_a_mutation_is_not_fetched(client: AdminClient, tenant: Tenant) -> None:
    with pytest.raises(TypeError, match="stored call"):
        await client.fetch(tenant.shop_id, INVENTORY_ADJUST, {})


async def test_no_token_and_no_variable_is_in_a_log_or_an_error(
    client: AdminClient, shopify: Shopify, tenant: Tenant, capsys: pytest.CaptureFixture[str]
) -> None:
    shopify.script.append(
        answers({"shop": {**SHOP_ANSWER["shop"], "currencyCode": {"planted": "secret@acme.example"}}})
    )
    with pytest.raises(UnexpectedAnswerError) as raised:
        await client.fetch(tenant.shop_id, SHOP, {"email": "secret@acme.example"})
    shopify.script.append(says(500))
    await client.fetch(tenant.shop_id, SHOP, {"email": "secret@acme.example"})
    said = capsys.readouterr()
    assert "shopify.called" in said.out + said.err
    assert "shpat_" not in said.out + said.err
    assert "secret@" not in said.out + said.err + str(raised.value)
