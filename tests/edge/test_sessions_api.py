"""Customers' sessions on a socket: begun by what Shopify gave, renewed once by each token, ended by a copy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from sellflow.edge.pruning import prune_edge
from sellflow.postgres.database import Database, SessionConnection
from sellflow.shops.settings import change_settings
from sellflow.shops.store import install_shop, mark_uninstalled
from tests.conftest import Tenant, make_tenant
from tests.edge.serving import serving, with_settings
from tests.edge.shopify_accounts import CLIENT, NONCE, Accounts
from tests.edge.shopify_accounts import accounts as serving_accounts

SESSIONS = "/mobile/sessions"


@pytest.fixture
async def accounts() -> AsyncIterator[Accounts]:
    async with serving_accounts() as found:
        yield found


@pytest.fixture
async def client(
    database: Database, owner: SessionConnection, tenant: Tenant, accounts: Accounts
) -> AsyncIterator[httpx.AsyncClient]:
    await configure(owner, tenant, accounts)
    async with serving(with_settings(database, refresh_token_leeway=0)) as found:
        yield found


async def configure(owner: SessionConnection, tenant: Tenant, accounts: Accounts) -> None:
    """Set the client, and let the app's Shopify be the stand-in."""
    url = accounts.url.replace(tenant.shop.domain, "{shop}")
    await owner.execute("UPDATE apps SET shopify_url = $1", url)
    changes = {"customer_account_client_id": CLIENT}
    async with owner.transaction():
        await change_settings(owner, tenant.shop_id, changes, by="test", version=None)


async def begin(client: httpx.AsyncClient, accounts: Accounts, **changes: object) -> httpx.Response:
    wanted = {"shop": "acme.myshopify.com", "id_token": accounts.id_token(), "nonce": NONCE} | changes
    return await client.post(SESSIONS, json={name: value for name, value in wanted.items() if value is not None})


async def begun(client: httpx.AsyncClient, accounts: Accounts) -> dict[str, Any]:
    answer = await begin(client, accounts)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def refresh(client: httpx.AsyncClient, token: str, **headers: str) -> tuple[int, dict[str, Any]]:
    answer = await client.post(f"{SESSIONS}/refresh", json={"refresh_token": token}, headers=headers)
    return answer.status_code, answer.json()


async def refusal(client: httpx.AsyncClient, token: str) -> str:
    status, answer = await refresh(client, token)
    assert status == 401
    return str(answer["code"])


async def test_a_customer_gets_a_session_by_either_token(
    client: httpx.AsyncClient, accounts: Accounts, owner: SessionConnection, tenant: Tenant
) -> None:
    for changes in (
        {},
        {"id_token": None, "nonce": None, "access_token": "shcat_good"},
        {"shop": "ACME.myshopify.com"},
    ):
        answer = await begin(client, accounts, **changes)
        assert answer.status_code == 201, answer.text
        shown = {"authorization": f"Bearer {answer.json()['token']}"}
        assert (await client.get("/v1/loyalty", headers=shown)).json()["balance"] == 0
    rows = await owner.fetch("SELECT shop_id, customer_id FROM customer_sessions")
    assert {(row["shop_id"], row["customer_id"]) for row in rows} == {(tenant.shop_id, 7)}


async def test_an_answer_that_is_stored_is_known_to_be_the_customers(
    client: httpx.AsyncClient, accounts: Accounts, owner: SessionConnection
) -> None:
    """It holds tokens of theirs, and has to go when they are erased."""
    wanted = {"shop": "acme.myshopify.com", "id_token": accounts.id_token(), "nonce": NONCE}
    answer = await client.post(SESSIONS, json=wanted, headers={"idempotency-key": "a"})
    status, _ = await refresh(client, answer.json()["refresh_token"], **{"idempotency-key": "b"})
    assert (answer.status_code, status) == (201, 200)
    rows = await owner.fetch("SELECT customer_id FROM idempotency_keys")
    assert [row["customer_id"] for row in rows] == [7, 7]


async def test_what_proves_no_customer_gets_none(
    client: httpx.AsyncClient, accounts: Accounts, owner: SessionConnection, tenant: Tenant
) -> None:
    for changes, status, code in (
        ({"nonce": "another"}, 401, "auth.customer_refused"),
        ({"id_token": "a.b.c"}, 401, "auth.customer_refused"),
        ({"id_token": None, "nonce": None, "access_token": "shcat_bad"}, 401, "auth.customer_refused"),
        ({"shop": "nobody.myshopify.com"}, 401, "auth.unknown_shop"),
        ({"shop": "' OR true --"}, 400, "request.invalid"),
        ({"app": "another"}, 401, "auth.unknown_shop"),
        ({"nonce": None}, 400, "request.invalid"),
        ({"access_token": "shcat_good"}, 400, "request.invalid"),
        ({"id_token": None}, 400, "request.invalid"),
        ({"id_token": "x" * 8193}, 400, "request.invalid"),
    ):
        answer = await begin(client, accounts, **changes)
        assert (answer.status_code, answer.json()["code"]) == (status, code), changes
    accounts.instead["/graphql"] = (503, b"{}")
    away = await begin(client, accounts, id_token=None, nonce=None, access_token="shcat_good")
    assert (away.status_code, away.headers["retry-after"]) == (503, "5")
    await mark_uninstalled(owner, [tenant.shop_id])
    assert (await begin(client, accounts)).json()["code"] == "auth.unknown_shop"
    assert await owner.fetchval("SELECT count(*) FROM customer_sessions") == 0


async def test_a_shop_that_set_no_client_id_lets_nobody_in(
    client: httpx.AsyncClient, accounts: Accounts, owner: SessionConnection, tenant: Tenant
) -> None:
    await make_tenant(owner, "unready", app=tenant.app)
    answer = await begin(client, accounts, shop="unready.myshopify.com")
    assert (answer.status_code, answer.json()["code"]) == (403, "customer_accounts.not_configured")


async def test_where_a_shop_has_several_apps_one_is_named(
    client: httpx.AsyncClient, accounts: Accounts, owner: SessionConnection, tenant: Tenant
) -> None:
    other = await make_tenant(owner, "second")
    await install_shop(owner, app_id=other.app.app_id, domain=tenant.shop.domain, currency="USD")
    assert (await begin(client, accounts)).json()["code"] == "request.ambiguous_shop"
    assert (await begin(client, accounts, app="acme")).status_code == 201


async def test_a_refresh_token_gives_the_next_and_a_copy_of_it_ends_the_session(
    client: httpx.AsyncClient, accounts: Accounts, owner: SessionConnection
) -> None:
    first = await begun(client, accounts)
    status, second = await refresh(client, first["refresh_token"])
    assert status == 200
    assert (await client.get("/v1/loyalty", headers={"authorization": f"Bearer {second['token']}"})).status_code == 200
    status, third = await refresh(client, second["refresh_token"])
    assert status == 200
    assert await refusal(client, first["refresh_token"]) == "auth.refresh_token_reused"
    assert await refusal(client, third["refresh_token"]) == "auth.invalid_refresh_token"
    assert await owner.fetchval("SELECT end_reason FROM customer_sessions") == "reuse"


async def test_an_app_that_lost_the_answer_asks_once_more_and_a_thief_is_found_out(
    database: Database, owner: SessionConnection, tenant: Tenant, accounts: Accounts
) -> None:
    await configure(owner, tenant, accounts)
    async with serving(with_settings(database, refresh_token_leeway=30)) as client:
        first = await begun(client, accounts)
        _, stolen = await refresh(client, first["refresh_token"])
        status, own = await refresh(client, first["refresh_token"])
        assert status == 200, "nobody used what the first exchange gave"
        status, _ = await refresh(client, own["refresh_token"])
        assert status == 200
        assert await refusal(client, stolen["refresh_token"]) == "auth.refresh_token_reused"
        second = await begun(client, accounts)
        _, renewed = await refresh(client, second["refresh_token"])
        await refresh(client, renewed["refresh_token"])
        # Within the leeway, but what it was exchanged for was used.
        assert await refusal(client, second["refresh_token"]) == "auth.refresh_token_reused"


async def test_twenty_exchanges_at_once_leave_at_most_one_token_of_worth(
    client: httpx.AsyncClient, accounts: Accounts, owner: SessionConnection
) -> None:
    first = await begun(client, accounts)
    answers = await asyncio.gather(*(refresh(client, first["refresh_token"]) for _ in range(20)))
    assert [status for status, _ in answers].count(200) == 1
    assert await owner.fetchval("SELECT count(*) FROM refresh_tokens WHERE used_at IS NULL") == 1
    assert await owner.fetchval("SELECT end_reason FROM customer_sessions") == "reuse"


async def test_an_exchange_that_is_sent_again_with_its_key_is_answered_again(
    client: httpx.AsyncClient, accounts: Accounts, owner: SessionConnection
) -> None:
    first = await begun(client, accounts)
    once = await refresh(client, first["refresh_token"], **{"idempotency-key": "a-key"})
    again = await refresh(client, first["refresh_token"], **{"idempotency-key": "a-key"})
    assert once == again
    assert once[0] == 200
    assert await owner.fetchval("SELECT end_reason FROM customer_sessions") is None


async def test_a_logout_ends_the_session(client: httpx.AsyncClient, accounts: Accounts) -> None:
    first = await begun(client, accounts)
    shown = {"refresh_token": first["refresh_token"]}
    assert (await client.post(f"{SESSIONS}/end", json=shown)).status_code == 204
    assert await refusal(client, first["refresh_token"]) == "auth.invalid_refresh_token"
    other = {"refresh_token": first["refresh_token"][:-1] + "x"}
    assert (await client.post(f"{SESSIONS}/end", json=other)).status_code == 401


async def test_a_token_is_of_its_shop_alone_and_stored_as_a_hash(
    client: httpx.AsyncClient, accounts: Accounts, owner: SessionConnection, tenant: Tenant
) -> None:
    other = await make_tenant(owner, "other", app=tenant.app)
    token = (await begun(client, accounts))["refresh_token"]
    secret = token.split("_", 2)[2]
    for hostile in (f"sfr_{other.shop_id}_{secret}", f"sfr_0_{secret}", f"sfr_1'_{secret}", token + "x", "x", secret):
        assert (await refresh(client, hostile))[0] == 401, hostile
    stored = await owner.fetchval("SELECT string_agg(t::text, '') FROM refresh_tokens t")
    assert secret not in stored
    assert (await refresh(client, token))[0] == 200


async def test_tokens_that_ran_out_are_refused_and_pruned_with_their_session(
    client: httpx.AsyncClient, accounts: Accounts, owner: SessionConnection
) -> None:
    token = (await begun(client, accounts))["refresh_token"]
    await owner.execute("UPDATE refresh_tokens SET expires_at = clock_timestamp()")
    assert (await refresh(client, token))[0] == 401
    await owner.execute("UPDATE customer_sessions SET created_at = created_at - interval '2 hours'")
    assert "1 refresh tokens and 1 customers' sessions" in await prune_edge().run(owner)
