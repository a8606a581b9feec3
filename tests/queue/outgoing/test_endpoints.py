"""Adding and changing endpoints: what is refused, who sees what, and what no login may."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta

import asyncpg
import pytest

from sellflow.errors import ConfigurationError, NotFoundError
from sellflow.postgres.database import Pool
from sellflow.postgres.transactions import batch_transaction, shop_transaction
from sellflow.queue.outgoing import endpoints, store
from sellflow.queue.outgoing.handlers import Deliveries
from sellflow.queue.outgoing.rules import DELIVERY_DUE, ENDPOINT_TEST
from sellflow.roles import build_registry, prepare_above
from tests.conftest import Tenant
from tests.edge.serving import with_settings
from tests.queue.outgoing.conftest import Outgoing
from tests.queue.outgoing.receiver import Receiver

URL = "https://shop.example/hooks"
TABLES = ("endpoints", "endpoint_secrets", "endpoint_deliveries", "endpoint_attempts")


async def test_a_secret_is_shown_once_and_is_long(outgoing: Outgoing) -> None:
    endpoint, secret = await outgoing.add(URL)
    _, other = await outgoing.add(URL + "/other")
    assert secret.startswith("whsec_")
    assert len(secret) == len("whsec_") + 44
    assert secret != other
    assert secret not in repr(endpoint)


async def test_an_address_is_one_endpoint_until_it_is_removed(outgoing: Outgoing) -> None:
    endpoint, _ = await outgoing.add(URL)
    with pytest.raises(ConfigurationError, match="is an endpoint already"):
        await outgoing.add(URL)
    await outgoing.add(URL, shop_id=outgoing.tenant.shop_id)
    await endpoints.remove_endpoint(outgoing.owner, endpoint.endpoint_id)
    again, _ = await outgoing.add(URL)
    assert again.endpoint_id != endpoint.endpoint_id


async def test_a_refused_endpoint_leaves_nothing_behind(outgoing: Outgoing) -> None:
    for address, topic in ((URL, "loyalti.#"), ("https://10.0.0.1/", "#"), ("arn:aws:sqs:x", "#")):
        with pytest.raises(ConfigurationError):
            await outgoing.add(address, topic)
    assert await endpoints.list_endpoints(outgoing.owner) == []


@pytest.mark.parametrize("change", ["pause", "resume", "remove", "rotate", "test", "replay"])
async def test_an_endpoint_that_does_not_exist_is_named(outgoing: Outgoing, change: str) -> None:
    owner, registry = outgoing.owner, outgoing.registry
    changes: dict[str, Callable[[], Awaitable[object]]] = {
        "pause": lambda: endpoints.pause_endpoint(owner, 7, reason=""),
        "resume": lambda: endpoints.resume_endpoint(owner, registry, 7),
        "remove": lambda: endpoints.remove_endpoint(owner, 7),
        "rotate": lambda: endpoints.rotate_secret(owner, outgoing.vault, 7, overlap=timedelta(0)),
        "test": lambda: endpoints.send_test(owner, registry, 7),
        "replay": lambda: endpoints.replay_deliveries(owner, registry, 7, delivery_id=1),
    }
    with pytest.raises(NotFoundError, match="no endpoint 7"):
        await changes[change]()


async def test_topics_are_bound_as_they_are_subscribed_to_and_never_what_deliveries_are_made_of(
    outgoing: Outgoing,
) -> None:
    async def bound() -> set[str]:
        rows = await outgoing.owner.fetch("SELECT pattern FROM pgmq.topic_bindings WHERE queue_name = 'outgoing'")
        return {row["pattern"] for row in rows}

    assert await bound() == {ENDPOINT_TEST}
    await outgoing.add(URL, "loyalty.points.*")
    assert await bound() == {ENDPOINT_TEST, "loyalty.points.earned", "loyalty.points.clawed_back"}
    endpoint, _ = await outgoing.add(URL + "/all", "#")
    everything = await bound()
    assert everything == set(outgoing.registry.topics) - {DELIVERY_DUE}
    await endpoints.remove_endpoint(outgoing.owner, endpoint.endpoint_id)
    assert await bound() == everything


async def test_migrating_binds_what_endpoints_hear_of_topics_that_are_new(outgoing: Outgoing) -> None:
    await outgoing.add(URL, "#")
    await outgoing.owner.execute("SELECT pgmq.unbind_topic('shopify.orders.paid', 'outgoing')")
    await prepare_above(outgoing.database.settings)(outgoing.owner)
    bound = "SELECT count(*) FROM pgmq.topic_bindings WHERE queue_name = 'outgoing' AND pattern = 'shopify.orders.paid'"
    assert await outgoing.owner.fetchval(bound) == 1


async def test_a_worker_sees_the_endpoints_of_its_batch_and_of_services_alone(
    outgoing: Outgoing, other_tenant: Tenant
) -> None:
    for shop_id in (outgoing.tenant.shop_id, other_tenant.shop_id, None):
        await outgoing.add(URL, shop_id=shop_id)
    async with outgoing.pool.acquire() as connection:
        async with batch_transaction(connection, [outgoing.tenant.shop_id]):
            seen = {each.shop_id for each in await store.listeners(connection)}
            secrets = {row["shop_id"] for row in await connection.fetch("SELECT shop_id FROM endpoint_secrets")}
        assert seen == secrets == {outgoing.tenant.shop_id, None}
        assert await connection.fetch("SELECT endpoint_id FROM endpoints") == []
        assert await connection.fetch("SELECT secret FROM endpoint_secrets") == []


async def test_a_delivery_of_another_shop_s_endpoint_is_not_sent_whatever_the_queue_says(
    outgoing: Outgoing, other_tenant: Tenant
) -> None:
    endpoint, _ = await outgoing.add(URL, shop_id=other_tenant.shop_id)
    forged = await outgoing.owner.fetchval(
        """
        INSERT INTO endpoint_deliveries (endpoint_id, shop_id, day, event_id, topic, state)
        VALUES ($1, $2, '2026-03-01', 1, 'loyalty.points.earned', 'pending') RETURNING delivery_id
        """,
        endpoint.endpoint_id,
        outgoing.tenant.shop_id,
    )
    shops = [outgoing.tenant.shop_id, other_tenant.shop_id]
    async with outgoing.pool.acquire() as connection, batch_transaction(connection, shops):
        assert await store.find_parcel(connection, outgoing.vault, forged) is None


async def test_a_worker_changes_of_an_endpoint_its_health_alone(outgoing: Outgoing, worker_pool: Pool) -> None:
    await outgoing.add(URL, shop_id=outgoing.tenant.shop_id)
    async with worker_pool.acquire() as connection:
        for statement in (
            "UPDATE endpoints SET address = 'https://evil.example/'",
            "UPDATE endpoints SET topics = '{#}'",
            "INSERT INTO endpoints (kind, address, topics) VALUES ('webhook', 'https://evil.example/', '{#}')",
            "DELETE FROM endpoints",
            "INSERT INTO endpoint_secrets (endpoint_id, secret) VALUES (1, 'whsec_known')",
            "UPDATE endpoint_secrets SET secret = 'whsec_known'",
            "UPDATE endpoint_deliveries SET shop_id = 1",
            "DELETE FROM endpoint_deliveries",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with batch_transaction(connection, [outgoing.tenant.shop_id]):
                    await connection.execute(statement)


@pytest.mark.parametrize("table", TABLES)
async def test_neither_web_nor_ingest_sees_anything_of_endpoints(
    web_pool: Pool, ingest_pool: Pool, tenant: Tenant, table: str
) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with shop_transaction(web_pool, tenant.shop_id) as connection:
            await connection.execute(f"SELECT FROM {table}")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await ingest_pool.execute(f"SELECT FROM {table}")


async def test_in_production_private_networks_are_for_services_and_not_for_merchants(
    outgoing: Outgoing, receiver: Receiver
) -> None:
    await outgoing.add(receiver.url)
    await outgoing.add(receiver.url, shop_id=outgoing.tenant.shop_id)
    database = with_settings(outgoing.database, environment="production")
    deliveries = Deliveries(database.settings, outgoing.vault)
    assert deliveries._services.networks
    assert deliveries._merchants.networks == ()
    outgoing.database = database
    outgoing.registry = build_registry(database.settings)
    await outgoing.emit("hello")
    await outgoing.deliver()
    assert len(receiver.requests) == 1
    refused = await outgoing.owner.fetchval("SELECT error_message FROM endpoint_attempts WHERE error_code IS NOT NULL")
    assert refused == "127.0.0.1 is not a public address"


async def test_without_the_setting_nobody_reaches_loopback(outgoing: Outgoing, receiver: Receiver) -> None:
    await outgoing.add(receiver.url)
    outgoing.database = with_settings(outgoing.database, outgoing_private_networks="")
    outgoing.registry = build_registry(outgoing.database.settings)
    await outgoing.emit("hello")
    await outgoing.deliver()
    assert receiver.connections == 0
    assert await outgoing.owner.fetchval("SELECT error_code FROM endpoint_attempts") == "outgoing.address_refused"


def test_no_process_loads_what_only_a_delivery_needs() -> None:
    code = (
        "import sys, sellflow.roles as r, sellflow.settings as s; r.build_registry(s.load_settings()); "
        "print([n for n in ('boto3', 'botocore', 'httpcore', 'standardwebhooks') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
