"""The webhook endpoint, from a delivery on a socket to what the database holds."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import httpx
import orjson
import pytest
from prometheus_client import REGISTRY

from sellflow.postgres.database import Database, Pool, SessionConnection
from sellflow.postgres.embedded import DATABASE, SUPERUSER
from sellflow.queue.event_log import adopt
from sellflow.queue.registry import Registry
from sellflow.secrets import Vault
from sellflow.shops import directory
from sellflow.shops.store import add_app, forget_previous_secret, install_shop, rotate_secret
from tests.conftest import SECRET, Tenant
from tests.edge.outage import relayed
from tests.edge.serving import serving, with_settings
from tests.queue.consuming import drain
from tests.webhooks.deliveries import Shopify, counts, order_body

REQUIRED = ["x-shopify-hmac-sha256", "x-shopify-topic", "x-shopify-shop-domain", "x-shopify-webhook-id"]


@pytest.fixture
async def client(database: Database, tenant: Tenant) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(database) as found:
        yield found


@pytest.fixture
def shopify(client: httpx.AsyncClient) -> Shopify:
    return Shopify(client)


def assert_problem(response: httpx.Response, status: int, code: str) -> None:
    assert response.headers["content-type"] == "application/problem+json"
    assert (response.status_code, response.json()["code"]) == (status, code)


async def test_a_delivery_leaves_a_receipt_an_event_and_a_message(
    shopify: Shopify, owner: SessionConnection, tenant: Tenant
) -> None:
    body = order_body(note="caf\u00e9 \x00 \U0001f600")
    response = await shopify.deliver(body, webhook_id="w-1")

    assert (response.status_code, response.content) == (200, b"")
    assert await counts(owner) == (1, 1, 1)
    event = await owner.fetchrow("SELECT * FROM events")
    assert event is not None
    assert event["payload"] == body
    assert (event["topic"], event["key"], event["shop_id"], event["webhook_id"]) == (
        "shopify.orders.paid",
        "order:1001",
        tenant.shop_id,
        "w-1",
    )
    message = orjson.loads(await owner.fetchval("SELECT message FROM pgmq.q_loyalty"))
    assert message == {
        "day": event["day"].isoformat(),
        "event_id": event["event_id"],
        "shop_id": tenant.shop_id,
        "key": "order:1001",
    }
    receipt = await owner.fetchrow("SELECT app_id, shop_domain, webhook_id FROM receipts")
    assert receipt is not None
    assert tuple(receipt) == (tenant.app.app_id, "acme.myshopify.com", "w-1")
    assert await owner.fetchval("SELECT count(*) FROM pgmq.q_shops") == 0


async def test_each_queue_gets_the_topics_it_subscribes_to(shopify: Shopify, owner: SessionConnection) -> None:
    await shopify.deliver(orjson.dumps({"myshopify_domain": "acme.myshopify.com"}), topic="app/uninstalled")
    assert await counts(owner) == (1, 1, 0)
    assert await owner.fetchval("SELECT count(*) FROM pgmq.q_shops") == 1


async def test_an_events_delivery_is_read_by_its_own_headers(shopify: Shopify, owner: SessionConnection) -> None:
    body = order_body()
    headers = {name.removeprefix("x-"): value for name, value in shopify.headers(body, webhook_id="e-1").items()}
    response = await shopify.send(body, headers)
    assert response.status_code == 200
    assert await owner.fetchval("SELECT webhook_id FROM events") == "e-1"


async def test_a_large_body_is_stored_whole(shopify: Shopify, owner: SessionConnection) -> None:
    body = order_body(note="x" * 3_000_000)
    assert (await shopify.deliver(body)).status_code == 200
    assert await owner.fetchval("SELECT payload FROM events") == body
    assert await owner.fetchval("SELECT key FROM events") == "order:1001"


async def test_a_second_delivery_of_an_id_is_accepted_and_changes_nothing(
    shopify: Shopify, owner: SessionConnection
) -> None:
    first = await shopify.deliver(order_body(), webhook_id="w-1")
    again = await shopify.deliver(order_body(note="another body"), webhook_id="w-1")
    assert (first.status_code, again.status_code) == (200, 200)
    assert await counts(owner) == (1, 1, 1)
    assert await owner.fetchval("SELECT payload FROM events") == order_body()


async def test_the_same_id_from_another_shop_is_another_delivery(
    shopify: Shopify, owner: SessionConnection, other_tenant: Tenant
) -> None:
    await shopify.deliver(order_body(1), webhook_id="w-1")
    await shopify.deliver(order_body(2), webhook_id="w-1", shop=other_tenant.shop.domain)
    assert await counts(owner) == (2, 2, 2)


async def test_of_many_deliveries_at_once_each_id_is_stored_once(shopify: Shopify, owner: SessionConnection) -> None:
    numbers = [*range(40), *range(24)]
    random.Random(7).shuffle(numbers)
    responses = await asyncio.gather(
        *(shopify.deliver(order_body(1000 + number), webhook_id=f"w-{number}") for number in numbers)
    )
    assert {response.status_code for response in responses} == {200}
    assert await counts(owner) == (40, 40, 40)
    assert await owner.fetchval("SELECT count(DISTINCT webhook_id) FROM events") == 40
    assert await owner.fetchval("SELECT count(DISTINCT message ->> 'event_id') FROM pgmq.q_loyalty") == 40


async def test_during_a_rotation_both_secrets_sign(
    shopify: Shopify, owner: SessionConnection, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "MIN_AGE", 0.0)
    assert (await shopify.deliver(order_body(), webhook_id="before")).status_code == 200
    await rotate_secret(owner, vault, "acme", "fresh secret")
    by_new = await shopify.deliver(order_body(), webhook_id="new", secret="fresh secret")
    by_old = await shopify.deliver(order_body(), webhook_id="old", secret=SECRET)
    assert (by_new.status_code, by_old.status_code) == (200, 200)
    assert await counts(owner) == (3, 3, 3)


async def test_a_forgotten_secret_is_refused_once_the_directory_has_aged(
    shopify: Shopify, owner: SessionConnection, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rotate_secret(owner, vault, "acme", "fresh secret")
    assert (await shopify.deliver(order_body(), secret=SECRET)).status_code == 200
    await forget_previous_secret(owner, "acme")
    monkeypatch.setattr(directory, "MAX_AGE", 0.0)
    assert_problem(await shopify.deliver(order_body(), secret=SECRET), 401, "webhook.bad_signature")
    assert (await shopify.deliver(order_body(), secret="fresh secret")).status_code == 200


async def test_an_app_added_while_the_process_runs_is_found(
    client: httpx.AsyncClient, shopify: Shopify, owner: SessionConnection, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "MIN_AGE", 0.0)
    await shopify.deliver(order_body())
    await add_app(owner, vault, handle="late", client_id="late", client_secret="late secret")
    assert (await Shopify(client, app="late", secret="late secret").deliver(order_body())).status_code == 200


async def test_a_wrong_signature_is_refused_and_nothing_is_stored(shopify: Shopify, owner: SessionConnection) -> None:
    body = order_body()
    for headers in (
        shopify.headers(body, secret="not hush"),
        shopify.headers(body + b" "),
        shopify.headers(body) | {"x-shopify-hmac-sha256": "rubbish"},
    ):
        assert_problem(await shopify.send(body, headers), 401, "webhook.bad_signature")
    assert await counts(owner) == (0, 0, 0)


async def test_another_apps_secret_does_not_sign(
    client: httpx.AsyncClient, owner: SessionConnection, vault: Vault
) -> None:
    await add_app(owner, vault, handle="agency", client_id="agency", client_secret="its own")
    assert_problem(await Shopify(client, app="agency").deliver(order_body()), 401, "webhook.bad_signature")


async def test_each_missing_header_is_named(shopify: Shopify, owner: SessionConnection) -> None:
    body = order_body()
    for missing in REQUIRED:
        headers = shopify.headers(body)
        del headers[missing]
        response = await shopify.send(body, headers)
        assert_problem(response, 400, "webhook.malformed_headers")
        assert f"{missing} is missing" in response.json()["detail"]
    assert await counts(owner) == (0, 0, 0)


async def test_a_hostile_domain_is_refused_although_the_body_is_signed(shopify: Shopify) -> None:
    response = await shopify.deliver(order_body(), shop="acme.myshopify.com.evil.com")
    assert_problem(response, 400, "webhook.malformed_headers")


async def test_a_time_that_no_database_could_hold_loses_no_order(shopify: Shopify, owner: SessionConnection) -> None:
    body = order_body()
    headers = shopify.headers(body) | {"x-shopify-triggered-at": "0001-01-01T00:00:00+14:00"}
    assert (await shopify.send(body, headers)).status_code == 200
    assert await counts(owner) == (1, 1, 1)


async def test_a_path_of_no_app_is_not_found(client: httpx.AsyncClient) -> None:
    for app in ("nobody", "", "acme/", "acme/more", "ACME", "%00", "acme%2f", "caf%C3%A9"):
        assert_problem(await Shopify(client, app=app).deliver(order_body()), 404, "webhook.unknown_app")


async def test_any_method_but_post_is_refused(client: httpx.AsyncClient) -> None:
    for method in ("GET", "PUT", "PATCH", "DELETE", "OPTIONS"):
        response = await client.request(method, "/webhooks/shopify/acme")
        assert_problem(response, 405, "http.method_not_allowed")
        assert response.headers["allow"] == "POST"


LIMIT = 1000


def padded(size: int) -> bytes:
    return order_body().ljust(size)


async def test_a_body_declared_above_the_limit_is_refused_and_one_at_the_limit_is_not(
    database: Database, owner: SessionConnection, tenant: Tenant
) -> None:
    async with serving(with_settings(database, webhook_max_body_bytes=LIMIT)) as client:
        shopify = Shopify(client)
        assert_problem(await shopify.deliver(padded(LIMIT + 1)), 413, "webhook.too_large")
        assert_problem(await shopify.deliver(padded(5 * LIMIT)), 413, "webhook.too_large")
        assert (await shopify.deliver(padded(LIMIT))).status_code == 200
    assert await counts(owner) == (1, 1, 1)


@pytest.mark.parametrize(("size", "status"), [(LIMIT, 200), (LIMIT + 1, 413)])
async def test_a_body_in_chunks_is_refused_as_soon_as_it_passes_the_limit(
    database: Database, owner: SessionConnection, tenant: Tenant, size: int, status: int
) -> None:
    body = padded(size)
    async with serving(with_settings(database, webhook_max_body_bytes=LIMIT)) as client:
        headers = Shopify(client).headers(body) | {"host": "acme", "transfer-encoding": "chunked"}
        reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
        writer.write(b"POST /webhooks/shopify/acme HTTP/1.1\r\n")
        writer.write("".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode() + b"\r\n")
        for start in range(0, size, 100):
            piece = body[start : start + 100]
            writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        if status == 200:  # whoever sends too much is answered before the body ends
            writer.write(b"0\r\n\r\n")
        answer = await reader.readuntil(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert await counts(owner) == ((1, 1, 1) if status == 200 else (0, 0, 0))


async def test_a_delivery_of_an_unknown_shop_is_kept_and_handled_once_it_is_installed(  # noqa: PLR0917 - fixtures
    shopify: Shopify,
    owner: SessionConnection,
    tenant: Tenant,
    database: Database,
    worker_pool: Pool,
    registry: Registry,
) -> None:
    early = "early.myshopify.com"
    assert (await shopify.deliver(order_body(1), shop=early)).status_code == 200
    assert (await shopify.deliver(orjson.dumps({"shop_id": 1}), topic="shop/redact", shop=early)).status_code == 200
    assert await counts(owner) == (2, 2, 0)
    assert await owner.fetchval("SELECT bool_and(shop_id IS NULL) FROM events")

    shop = await install_shop(owner, app_id=tenant.app.app_id, domain=early, currency="USD")
    assert (await shopify.deliver(order_body(2), shop=early)).status_code == 200
    assert await counts(owner) == (3, 3, 1)
    assert await adopt(owner, registry) == 2
    assert await counts(owner) == (3, 3, 2)
    assert await owner.fetchval("SELECT bool_and(shop_id = $1) FROM events", shop.shop_id)

    await drain(database, worker_pool, registry)
    orders = await owner.fetch("SELECT order_id FROM orders WHERE shop_id = $1 ORDER BY 1", shop.shop_id)
    assert [row["order_id"] for row in orders] == [1, 2]


def unrouted(topic: str) -> float:
    return REGISTRY.get_sample_value("sellflow_events_unrouted_total", {"topic": topic}) or 0.0


async def test_an_undeclared_topic_is_stored_and_counted_and_reaches_no_queue(
    shopify: Shopify, owner: SessionConnection
) -> None:
    before = unrouted("undeclared")
    response = await shopify.deliver(b"{}", topic="themes/publish")
    assert response.status_code == 200
    assert unrouted("undeclared") == before + 1
    assert await counts(owner) == (1, 1, 0)
    assert await owner.fetchval("SELECT topic FROM events") == "shopify.themes.publish"


async def test_a_signed_body_that_is_no_order_is_stored_as_it_came_and_set_aside(
    shopify: Shopify, owner: SessionConnection, database: Database, worker_pool: Pool, registry: Registry
) -> None:
    bodies = {
        "truncated": order_body()[:-20],
        "empty": b"",
        "a-nul": b"\x00",
        "not-utf-8": b'{"id": "\xff\xfe"}',
        "nul-in-a-name": order_body().replace(b"paid", b"pa\x00id"),
        "escaped-nul": order_body(name="#1\x001"),
        "lone-surrogate": order_body().replace(b"#1001", b"\\ud800"),
        "deeply-nested": b"[" * 5000,
    }
    for name, body in bodies.items():
        assert (await shopify.deliver(body, webhook_id=name)).status_code == 200
    stored = {row["webhook_id"]: row["payload"] for row in await owner.fetch("SELECT webhook_id, payload FROM events")}
    assert stored == bodies

    await drain(database, worker_pool, registry)
    letters = await owner.fetch(
        "SELECT webhook_id, error_class, error_code, attempts FROM dead_letters JOIN events USING (day, event_id)"
    )
    assert {tuple(letter) for letter in letters} == {
        (name, "InvalidPayloadError", "payload.invalid", 1) for name in bodies
    }
    assert (await counts(owner))[2] == 0
    assert await owner.fetchval("SELECT count(*) FROM parked_messages") == 0


async def test_while_the_database_is_away_a_delivery_is_sent_back_and_its_retry_is_stored(
    database: Database, owner: SessionConnection, tenant: Tenant, tmp_path: Path
) -> None:
    async with relayed(database, tmp_path) as (distant, relay), serving(distant) as client:
        shopify = Shopify(client)
        assert (await shopify.deliver(order_body(1), webhook_id="w-1")).status_code == 200
        await relay.cut()
        for _ in range(3):
            away = await shopify.deliver(order_body(2), webhook_id="w-2")
            assert_problem(away, 503, "database.unavailable")
            assert int(away.headers["retry-after"]) > 0
        await relay.mend()
        assert (await shopify.deliver(order_body(2), webhook_id="w-2")).status_code == 200
    assert await counts(owner) == (2, 2, 2)


@pytest.mark.parametrize("max_age", [10.0, 0.0], ids=["apps known", "apps to be read again"])
async def test_while_the_database_hangs_a_delivery_is_sent_back_in_time(
    database: Database, tenant: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, max_age: float
) -> None:
    monkeypatch.setattr(directory, "MAX_AGE", max_age)
    hurried = with_settings(database, webhook_deadline=0.2)
    async with relayed(hurried, tmp_path) as (distant, relay), serving(distant) as client:
        shopify = Shopify(client)
        assert (await shopify.deliver(order_body(1))).status_code == 200
        relay.passing.clear()
        async with asyncio.timeout(4):
            late = await shopify.deliver(order_body(2))
        assert late.status_code == 503
        assert "retry-after" in late.headers
        relay.passing.set()
        assert (await shopify.deliver(order_body(3))).status_code == 200


async def test_a_process_ends_although_its_database_hangs(database: Database, tenant: Tenant, tmp_path: Path) -> None:
    hurried = with_settings(database, webhook_deadline=0.2)
    async with relayed(hurried, tmp_path) as (distant, relay), asyncio.timeout(20), serving(distant) as client:
        assert (await Shopify(client).deliver(order_body(1))).status_code == 200
        relay.passing.clear()
        assert (await Shopify(client).deliver(order_body(2))).status_code == 503


async def test_a_process_that_never_saw_its_database_sends_deliveries_back(
    database: Database, owner: SessionConnection, tenant: Tenant, tmp_path: Path
) -> None:
    async with relayed(database, tmp_path) as (distant, relay):
        await relay.cut()
        async with serving(distant) as client:
            away = await Shopify(client).deliver(order_body())
            assert_problem(away, 503, "database.unavailable")
            assert "retry-after" in away.headers
            await relay.mend()
            assert (await Shopify(client).deliver(order_body())).status_code == 200
    assert await counts(owner) == (1, 1, 1)


async def test_a_database_closed_for_maintenance_sends_deliveries_back(
    database: Database, owner: SessionConnection, tenant: Tenant, server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "MAX_AGE", 0.0)
    name = await owner.fetchval("SELECT current_database()")
    admin = await asyncpg.connect(server_url.replace(f"/{DATABASE}?", "/postgres?"), user=SUPERUSER)
    try:
        async with serving(database) as client:
            shopify = Shopify(client)
            assert (await shopify.deliver(order_body(1), webhook_id="w-1")).status_code == 200
            await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
            await admin.execute(
                """
                SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
                WHERE datname = $1 AND application_name LIKE 'sellflow web%'
                """,
                name,
            )
            for _ in range(3):
                away = await shopify.deliver(order_body(2), webhook_id="w-2")
                assert_problem(away, 503, "database.unavailable")
            await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
            assert (await shopify.deliver(order_body(2), webhook_id="w-2")).status_code == 200
    finally:
        await admin.close()
    assert await counts(owner) == (2, 2, 2)
