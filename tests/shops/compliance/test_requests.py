"""What Shopify asks for is written down, whoever the shop is and however often it is asked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import asyncpg
import httpx
import orjson
import pytest
from prometheus_client import REGISTRY

from sellflow.postgres.database import Login, SessionConnection
from sellflow.postgres.transactions import batch_transaction
from sellflow.shops.compliance import store
from sellflow.shops.compliance.fulfilment import NAME, Fulfilment, fulfil_due
from sellflow.shops.compliance.models import Kind, Person, State
from tests.conftest import SECRET, Tenant
from tests.edge.serving import serving
from tests.shops.compliance.conftest import Compliance
from tests.shops.compliance.dumps import dump, where_found
from tests.shops.compliance.people import ZEPHYRINE
from tests.webhooks.deliveries import Shopify

GONE = "long-gone.myshopify.com"


@pytest.mark.conformance
async def test_the_three_topics_are_read_as_shopify_documents_them(
    compliance: Compliance, owner: SessionConnection, tenant: Tenant
) -> None:
    bodies = {
        "customers/data_request": ZEPHYRINE.data_request(tenant.shop.domain, 299938, 280263),
        "customers/redact": ZEPHYRINE.redact(tenant.shop.domain, 299938),
        "shop/redact": {"shop_id": 954889, "shop_domain": tenant.shop.domain},
    }
    async with serving(compliance.database) as client:
        for topic, body in bodies.items():
            answer = await Shopify(client, secret=SECRET).deliver(orjson.dumps(body), topic=topic)
            assert answer.status_code == 200
    await compliance.consume("compliance")
    first, second, third = await compliance.requests()
    whom = (ZEPHYRINE.customer_id, ZEPHYRINE.email, ZEPHYRINE.phone)
    assert (first.kind, first.person, first.external_id) == (
        Kind.DATA_REQUEST,
        Person(*whom, frozenset({299938, 280263})),
        9999,
    )
    assert (second.kind, second.person) == (Kind.CUSTOMER_REDACT, Person(*whom, frozenset({299938})))
    assert (third.kind, third.person, third.shop_id) == (Kind.SHOP_REDACT, None, tenant.shop_id)
    assert {each.due_at - each.received_at for each in (first, second, third)} == {timedelta(days=30)}
    keys = await owner.fetch("SELECT key FROM events ORDER BY event_id")
    assert [row["key"] for row in keys] == [f"customer:{ZEPHYRINE.customer_id}"] * 2 + [""]


@pytest.mark.conformance
async def test_a_compliance_webhook_that_nobody_signed_is_answered_with_401(
    compliance: Compliance, owner: SessionConnection, tenant: Tenant
) -> None:
    async with serving(compliance.database) as client:
        body = orjson.dumps(ZEPHYRINE.redact(tenant.shop.domain))
        answer: httpx.Response = await Shopify(client).deliver(body, topic="customers/redact", secret="forged")
    assert answer.status_code == 401
    assert await owner.fetchval("SELECT count(*) FROM events") == 0


async def test_a_webhook_is_one_request_however_often_it_is_handled(
    compliance: Compliance, owner: SessionConnection, tenant: Tenant
) -> None:
    await compliance.deliver("customers/redact", ZEPHYRINE.redact(tenant.shop.domain))
    await compliance.consume("compliance")
    await owner.execute(
        """
        INSERT INTO pgmq.q_compliance (vt, message)
        SELECT clock_timestamp(), event_reference(day, event_id, shop_id, key) FROM events
        """
    )
    await compliance.consume("compliance")
    assert len(await compliance.requests()) == 1


async def test_a_body_about_one_shop_under_the_header_of_another_is_refused(
    compliance: Compliance, owner: SessionConnection, tenant: Tenant, other_tenant: Tenant
) -> None:
    for topic, body in (
        ("customers/redact", ZEPHYRINE.redact(tenant.shop.domain)),
        ("shop/redact", {"shop_domain": tenant.shop.domain}),
    ):
        await compliance.deliver(topic, body, tenant=other_tenant)
    await compliance.consume("compliance")
    assert await compliance.requests() == []
    letters = await owner.fetch("SELECT error_code FROM dead_letters ORDER BY dead_letter_id")
    assert [row["error_code"] for row in letters] == ["shops.foreign_shop"] * 2


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"shop_domain": "acme.myshopify.com"}',
        b'{"shop_domain": "acme.myshopify.com", "customer": {}}',
        b'{"shop_domain": "acme.myshopify.com", "customer": {"id": 0}}',
        b'{"shop_domain": "acme.myshopify.com", "customer": {"id": "\\u0000"}}',
        b'{"shop_domain": "acme.myshopify.com", "customer": {"email": "a"}}',
        b'{"shop_domain": "acme.myshopify.com", "customer": {"email": "a\\u0000bcdef"}}',
        b'{"shop_domain": "acme.myshopify.com", "customer": {"id": 99999999999999999999}}',
        b'{"shop_domain": "acme.myshopify.com", "customer": {"id": 5}, "orders_to_redact": ["x"]}',
    ],
)
async def test_rubbish_is_a_dead_letter_and_no_request(
    compliance: Compliance, owner: SessionConnection, body: bytes
) -> None:
    await compliance.deliver("customers/redact", body)
    await compliance.consume("compliance")
    assert await compliance.requests() == []
    assert await owner.fetchval("SELECT error_code FROM dead_letters") == "payload.invalid"


async def test_a_shop_that_removed_the_app_is_served(
    compliance: Compliance, owner: SessionConnection, tenant: Tenant
) -> None:
    await compliance.deliver("orders/paid", ZEPHYRINE.order(1000))
    await compliance.deliver("app/uninstalled", {"myshopify_domain": tenant.shop.domain})
    await compliance.deliver("customers/redact", ZEPHYRINE.redact(tenant.shop.domain))
    await compliance.consume()
    await compliance.fulfil()
    assert [each.state for each in await compliance.requests()] == [State.DONE]
    assert where_found(await dump(owner), ZEPHYRINE.data) == set()


async def test_webhooks_of_a_shop_nobody_knows_are_recorded_and_hold_no_day_of_the_log(
    compliance: Compliance, owner: SessionConnection, tenant: Tenant
) -> None:
    await compliance.deliver("orders/paid", ZEPHYRINE.order(1000), shop=GONE)
    await compliance.deliver("customers/data_request", ZEPHYRINE.data_request(GONE), shop=GONE)
    await compliance.deliver("customers/redact", ZEPHYRINE.redact(GONE), shop=GONE)
    assert "2 of unknown shops" in await compliance.run()
    await compliance.fulfil()
    assert [(each.kind, each.state, each.shop_id) for each in await compliance.requests()] == [
        (Kind.DATA_REQUEST, State.DONE, None),
        (Kind.CUSTOMER_REDACT, State.DONE, None),
    ]
    assert where_found(await dump(owner), ZEPHYRINE.data) == set()
    await compliance.deliver("shop/redact", {"shop_domain": GONE}, shop=GONE)
    await compliance.run()
    await compliance.fulfil()
    assert await owner.fetchval("SELECT count(*) FROM events WHERE shop_id IS NULL") == 0
    assert where_found(await dump(owner), [GONE]) == set()
    assert await owner.fetchval("SELECT count(*) FROM dead_letters") == 0
    assert tenant.shop.domain == await owner.fetchval("SELECT domain FROM shops")


async def test_rubbish_and_forgery_under_an_unknown_shop_are_recorded_as_refused(
    compliance: Compliance, owner: SessionConnection, tenant: Tenant
) -> None:
    await compliance.deliver("customers/redact", b"nonsense", shop=GONE)
    await compliance.deliver("shop/redact", {"shop_domain": tenant.shop.domain}, shop=GONE)
    await compliance.run()
    assert [each.state for each in await compliance.requests()] == [State.REFUSED] * 2
    assert await owner.fetchval("SELECT count(*) FROM shops") == 1
    assert await owner.fetchval("SELECT count(*) FROM events") == 0


async def test_a_request_that_fails_is_tried_again_later_and_stops_no_other(
    compliance: Compliance, owner: SessionConnection, tenant: Tenant
) -> None:
    await compliance.deliver("customers/redact", ZEPHYRINE.redact(tenant.shop.domain))
    await compliance.deliver("customers/data_request", ZEPHYRINE.data_request(tenant.shop.domain))
    await compliance.consume("compliance")
    await owner.execute("ALTER TABLE tombstones ADD CONSTRAINT broken CHECK (shop_id < 0)")
    await fulfil_due(owner, compliance.means)
    first, second = await compliance.requests()
    assert (first.state, first.attempts, first.last_error) == (State.OPEN, 1, "CheckViolationError 23514")
    assert second.state is State.DONE
    assert await fulfil_due(owner, compliance.means) == 0, "not at once"
    await owner.execute("ALTER TABLE tombstones DROP CONSTRAINT broken")
    await compliance.fulfil()
    assert {each.state for each in await compliance.requests()} == {State.DONE}


async def test_overdue_requests_are_told_of(compliance: Compliance, owner: SessionConnection, tenant: Tenant) -> None:
    await compliance.deliver("shop/redact", {"shop_domain": tenant.shop.domain})
    await compliance.consume("compliance")
    await owner.execute("UPDATE compliance_requests SET due_at = clock_timestamp() - interval '1 second'")
    await compliance.run()
    assert REGISTRY.get_sample_value("sellflow_compliance_requests", {"kind": "shop_redact", "state": "overdue"}) == 1
    (request,) = await compliance.requests()
    assert request.is_overdue(datetime.now(UTC))


async def test_settling_takes_as_long_as_was_set(compliance: Compliance, tenant: Tenant) -> None:
    await compliance.deliver("customers/redact", ZEPHYRINE.redact(tenant.shop.domain))
    await compliance.consume("compliance")
    slow = Fulfilment(compliance.inventory, compliance.vault, 300.0, 30)
    assert await fulfil_due(compliance.owner, slow) == 1
    assert await fulfil_due(compliance.owner, slow) == 0
    assert [each.state for each in await compliance.requests()] == [State.SETTLING]
    assert compliance.job.name == NAME


async def test_a_worker_writes_requests_down_and_can_neither_read_nor_end_one(
    compliance: Compliance, tenant: Tenant
) -> None:
    await compliance.deliver("customers/redact", ZEPHYRINE.redact(tenant.shop.domain))
    await compliance.consume("compliance")
    async with compliance.worker.acquire() as connection:
        for statement in (
            "SELECT subject FROM compliance_requests",
            "UPDATE compliance_requests SET state = 'done'",
            "DELETE FROM compliance_requests",
            "SELECT FROM tombstones",
            "SELECT FROM compliance_exports",
            "SELECT FROM compliance_progress",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with batch_transaction(connection, [tenant.shop_id]):
                    await connection.execute(statement)


async def test_the_scheduler_keeps_no_transaction_open_meanwhile(compliance: Compliance, tenant: Tenant) -> None:
    """Nothing that a step does stands in a transaction around it."""
    await compliance.deliver("customers/redact", ZEPHYRINE.redact(tenant.shop.domain))
    await compliance.consume("compliance")
    connection = await compliance.database.connect(Login.OWNER, purpose="test")
    await fulfil_due(connection, compliance.means)
    assert not connection.is_in_transaction()
    await connection.close()
    (request,) = await store.list_requests(compliance.owner, unfinished=True)
    assert request.state is State.SETTLING
