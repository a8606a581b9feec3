"""A customer is erased from everything, and nobody else is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import orjson
import pytest
from pydantic import BaseModel

from sellflow.edge.callers import Caller
from sellflow.edge.idempotency import AboutCustomer, Once
from sellflow.edge.refresh_tokens import RefusedTokenError, begin_session, renew_session
from sellflow.edge.sessions_api import ANONYMOUS
from sellflow.postgres.database import Connection, Login, Pool, SessionConnection
from sellflow.postgres.transactions import shop_transaction
from sellflow.shops.compliance import event_log
from sellflow.shops.compliance.models import State
from tests.conftest import Tenant
from tests.loyalty.books import check_books
from tests.queue.outgoing.receiver import Delivered, Receiver, receiving
from tests.shops.compliance.conftest import Compliance, cut_off
from tests.shops.compliance.dumps import dump, where_found
from tests.shops.compliance.people import ODALYS, ZEPHYRINE, Someone


async def echo(writer: asyncio.StreamWriter, request: Delivered) -> None:
    """Refuse a delivery, and say back what it said."""
    writer.write(b"HTTP/1.1 500 No\r\ncontent-length: %d\r\n\r\n" % len(request.body) + request.body)
    await writer.drain()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as found:
        found.answering = echo
        yield found


async def live(compliance: Compliance, who: Someone, first_order: int, *, tenant: Tenant | None = None) -> None:
    """Have somebody buy, return, and run into everything that can go wrong."""
    await compliance.deliver("customers/create", who.customer, tenant=tenant)
    await compliance.deliver("orders/paid", who.order(first_order), tenant=tenant)
    await compliance.deliver("refunds/create", who.refund(first_order + 50, first_order), tenant=tenant)
    await compliance.deliver("orders/paid", who.order(first_order + 1, tags="dead"), tenant=tenant)
    await compliance.deliver("orders/create", who.order(first_order + 2, tags="parked"), tenant=tenant)
    await compliance.deliver(
        "orders/updated", b'{"id": "broken", "email": "' + who.email.encode() + b'"', tenant=tenant
    )
    guest = {"token": f"t-{first_order}", "email": who.email.upper().lower(), "shipping_address": who.address}
    await compliance.deliver("checkouts/create", guest, tenant=tenant)
    merge = {"admin_graphql_api_customer_kept_id": f"gid://shopify/Customer/{who.customer_id}"}
    await compliance.deliver("customers/merge", merge, tenant=tenant)


async def call_shopify(owner: SessionConnection, tenant: Tenant, who: Someone) -> None:
    """Write down a call to Shopify that is about somebody, as its room does."""
    await owner.execute(
        """
        INSERT INTO admin_calls (shop_id, purpose, subject, document, query, variables, key, is_idempotent)
        VALUES ($1, $2, $3, 'credit', 'mutation …', $4, gen_random_uuid(), false)
        """,
        tenant.shop_id,
        f"redemption:{who.customer_id % 1000}",
        f"customer:{who.customer_id}",
        who.email.encode(),
    )


async def log_in(compliance: Compliance, web: Pool, tenant: Tenant, who: Someone) -> None:
    """Have somebody log in and renew the session, and a program do something for them, all with idempotency keys."""
    vault, customer_id = compliance.vault, who.customer_id

    async def begin(connection: Connection) -> AboutCustomer:
        renewal = await begin_session(connection, tenant.shop_id, customer_id, ttl=3600)
        renewed = await renew_session(connection, tenant.shop_id, renewal.refresh_token, ttl=3600, leeway=0)
        return AboutCustomer(Said(text=renewed.refresh_token), customer_id)

    async def buy(_: Connection) -> Said:
        return Said(text=who.email)

    for name, work in ((ANONYMOUS, begin), (f"customer:{customer_id}", buy), ("merchant:42", begin)):
        once = Once("POST /test", bytes(32), f"a key of {customer_id}", vault)
        await once.run(Caller(tenant.shop_id, name), shop_transaction(web, tenant.shop_id), work)


class Said(BaseModel):
    """An answer."""

    text: str


async def totals(owner: SessionConnection) -> dict[str, object]:
    """What the books of all shops come to."""
    row = await owner.fetchrow(
        """
        SELECT (SELECT sum(balance) FROM accounts) AS balances, (SELECT count(*) FROM entries) AS entries,
               (SELECT sum(points) FROM transfers) AS moved, (SELECT sum(remaining) FROM lots) AS spendable,
               (SELECT sum(subtotal) FROM orders) AS sold, (SELECT sum(amount) FROM refunds) AS refunded,
               (SELECT count(*) FROM events WHERE topic <> 'shopify.customers.redact') AS events
        """
    )
    assert row is not None
    return dict(row)


async def test_nothing_planted_survives_in_a_full_dump_and_another_customer_is_untouched(
    *, compliance: Compliance, owner: SessionConnection, web_pool: Pool, receiver: Receiver, tenant: Tenant
) -> None:
    await compliance.listen(receiver.url, "shopify.orders.#", "loyalty.#", "queue.dead_letter", shop_id=tenant.shop_id)
    await live(compliance, ZEPHYRINE, 1000)
    await live(compliance, ODALYS, 2000)
    for who in (ZEPHYRINE, ODALYS):
        await call_shopify(owner, tenant, who)
        await log_in(compliance, web_pool, tenant, who)
    await compliance.consume()
    before, books = await dump(owner), await totals(owner)
    for table in (
        "dead_letters",
        "failed_attempts",
        "endpoint_attempts",
        "accounts",
        "orders",
        "outcomes",
        "admin_calls",
        "customer_sessions",
        "idempotency_keys",
    ):
        parts = {name: text for name, text in before.items() if name.startswith(table)}
        assert where_found(parts, ZEPHYRINE.data), f"nothing was planted in {table}"
    assert await owner.fetchval("SELECT count(*) FROM parked_messages WHERE queue = 'gossip'") == 4
    planted = where_found(before, ZEPHYRINE.data)
    assert {each.partition(" in ")[0] for each in planted} == set(ZEPHYRINE.data)

    await compliance.deliver("customers/data_request", ZEPHYRINE.data_request(tenant.shop.domain, 1000))
    await compliance.consume("compliance")
    await compliance.fulfil()
    await compliance.deliver("customers/redact", ZEPHYRINE.redact(tenant.shop.domain, 1000))
    await compliance.consume("compliance")
    await compliance.fulfil()

    after = await dump(owner)
    assert where_found(after, ZEPHYRINE.data) == set()
    assert where_found(after, ODALYS.data) == where_found(before, ODALYS.data)
    for table, number in (("customer_sessions", 2), ("refresh_tokens", 4), ("idempotency_keys", 3)):
        rows = await owner.fetchval(f"SELECT count(*) FROM {table}")
        assert rows == number, f"of {table} the other customer's stay, and nothing else"
    assert await totals(owner) == books | {"events": int(str(books["events"])) + 1}
    await check_books(owner)
    request = (await compliance.requests())[-1]
    assert (request.state, request.person) == (State.DONE, None)
    for table in ("events", "orders", "accounts", "dead_letters", "failed_attempts", "endpoint_attempts", "outcomes"):
        assert request.record[table] > 0, table
    for table, number in (("customer_sessions", 2), ("refresh_tokens", 4), ("idempotency_keys", 3)):
        assert request.record[table] == number, table


async def test_a_session_that_is_renewed_meanwhile_ends_all_the_same(
    compliance: Compliance, owner: SessionConnection, web_pool: Pool, tenant: Tenant
) -> None:
    """Whoever renews holds the session locked: the erasure waits, and takes the new token too."""
    shop_id, customer_id = tenant.shop_id, ZEPHYRINE.customer_id
    async with shop_transaction(web_pool, shop_id) as connection:
        begun = await begin_session(connection, shop_id, customer_id, ttl=3600)
    await compliance.deliver("customers/redact", ZEPHYRINE.redact(tenant.shop.domain))
    await compliance.consume("compliance")
    async with shop_transaction(web_pool, shop_id) as connection:
        renewed = await renew_session(connection, shop_id, begun.refresh_token, ttl=3600, leeway=0)
        erasing = asyncio.create_task(compliance.step())
        async with asyncio.timeout(20):
            while not await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):  # noqa: ASYNC110
                await asyncio.sleep(0)  # nothing but the server knows who waits
    await erasing
    async with shop_transaction(web_pool, shop_id) as connection:
        with pytest.raises(RefusedTokenError, match="unknown"):
            await renew_session(connection, shop_id, renewed.refresh_token, ttl=3600, leeway=0)
    assert await owner.fetchval("SELECT count(*) FROM refresh_tokens") == 0
    assert await owner.fetchval("SELECT count(*) FROM customer_sessions") == 0


async def test_what_is_erased_leaves_no_dead_row_behind(
    compliance: Compliance, owner: SessionConnection, tenant: Tenant
) -> None:
    await live(compliance, ZEPHYRINE, 1000)
    await compliance.deliver("customers/redact", ZEPHYRINE.redact(tenant.shop.domain))
    await compliance.consume()
    await compliance.fulfil()
    await owner.execute("SELECT pg_stat_force_next_flush()")
    vacuumed = await owner.fetch("SELECT relname FROM pg_stat_user_tables WHERE vacuum_count > 0")
    names = {row["relname"] for row in vacuumed}
    today = await owner.fetchval("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD')")
    assert {f"events_{today}", f"outcomes_{today}", "orders", "accounts", "dead_letters", "failed_attempts"} <= names


async def test_messages_that_wait_can_still_be_handled_and_come_to_the_same_figures(
    compliance: Compliance, owner: SessionConnection, tenant: Tenant
) -> None:
    await compliance.deliver("orders/paid", ZEPHYRINE.order(1000))
    await compliance.consume("loyalty")
    await compliance.deliver("refunds/create", ZEPHYRINE.refund(1050, 1000))
    await compliance.deliver("orders/paid", ZEPHYRINE.order(1001, tags="dead"))
    await compliance.consume("gossip")
    await compliance.deliver("customers/redact", ZEPHYRINE.redact(tenant.shop.domain))
    await compliance.consume("compliance")
    await compliance.fulfil()
    await compliance.consume()
    assert await owner.fetchval("SELECT count(*) FROM dead_letters WHERE queue <> 'gossip'") == 0
    points = await owner.fetch("SELECT customer_id, balance FROM accounts WHERE kind = 'customer'")
    assert [row["balance"] for row in points] == [15]
    assert all(row["customer_id"] < 0 for row in points)
    await check_books(owner)
    assert where_found(await dump(owner), ZEPHYRINE.data) == set()


async def test_a_late_webhook_does_not_bring_the_customer_back(
    compliance: Compliance, owner: SessionConnection, tenant: Tenant
) -> None:
    await compliance.deliver("orders/paid", ZEPHYRINE.order(1000))
    await compliance.deliver("customers/redact", ZEPHYRINE.redact(tenant.shop.domain))
    await compliance.consume()
    await compliance.fulfil()
    account = await owner.fetchval("SELECT account_id FROM accounts WHERE kind = 'customer'")

    late = ZEPHYRINE.order(1000, updated_at="2026-12-01T00:00:00Z", subtotal_price="35.00")
    await compliance.deliver("orders/updated", late)
    await compliance.deliver("orders/paid", ZEPHYRINE.order(1007))
    await compliance.deliver("customers/update", ZEPHYRINE.customer)
    await compliance.deliver("orders/paid", ODALYS.order(2000))
    await compliance.consume()
    known = await owner.fetchrow("SELECT customer_id, subtotal FROM orders WHERE order_id = 1000")
    assert known is not None
    assert known["customer_id"] < 0, "an order that was erased gets no customer again"
    assert known["subtotal"] == 35
    assert await owner.fetchval("SELECT balance FROM accounts WHERE account_id = $1", account) == 35

    await compliance.let_time_pass()
    # One request for all three: the first waits, and will find the others.
    assert "1 late" in await compliance.run()
    await compliance.fulfil()
    assert where_found(await dump(owner), ZEPHYRINE.data) == set()
    assert where_found(await dump(owner), [ODALYS.email]) != set()
    await check_books(owner)
    assert "0 late" in await compliance.run()
    await compliance.let_time_pass()
    assert "0 late" in await compliance.run()


async def test_who_is_erased_twice_is_erased_and_both_requests_end(
    compliance: Compliance, owner: SessionConnection, tenant: Tenant
) -> None:
    await live(compliance, ZEPHYRINE, 1000)
    for _ in range(2):
        await compliance.deliver("customers/redact", ZEPHYRINE.redact(tenant.shop.domain, 1000))
    await compliance.consume()
    await compliance.fulfil()
    assert [each.state for each in await compliance.requests()] == [State.DONE, State.DONE]
    await compliance.deliver("customers/redact", ZEPHYRINE.redact(tenant.shop.domain, 1000))
    await compliance.let_time_pass()
    await compliance.run()  # before its handler: the search must not make the request unreadable
    await compliance.consume()
    await compliance.fulfil()
    assert [each.state for each in await compliance.requests()] == [State.DONE] * 3
    assert where_found(await dump(owner), ZEPHYRINE.data) == set()
    assert await owner.fetchval("SELECT count(*) FROM dead_letters WHERE queue = 'compliance'") == 0


async def test_a_customer_without_an_id_is_found_by_address(
    compliance: Compliance, owner: SessionConnection, tenant: Tenant
) -> None:
    guest = ZEPHYRINE.order(1000) | {"customer": None}
    await compliance.deliver("orders/paid", guest)
    body = {"shop_domain": tenant.shop.domain, "customer": {"email": ZEPHYRINE.email}, "orders_to_redact": []}
    await compliance.deliver("customers/redact", body)
    await compliance.consume()
    await compliance.fulfil()
    assert where_found(await dump(owner), ZEPHYRINE.data) == set()


async def test_an_erasure_that_is_cut_off_anywhere_is_completed_by_the_next(
    compliance: Compliance, owner: SessionConnection, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every statement is once the last one; the connection is lost with what it had open."""
    monkeypatch.setattr(event_log, "ERASED_TOGETHER", 2)
    await live(compliance, ZEPHYRINE, 1000)
    await live(compliance, ODALYS, 2000)
    await compliance.consume()
    books = await totals(owner)
    await compliance.deliver("customers/redact", ZEPHYRINE.redact(tenant.shop.domain, 1000))
    await compliance.consume("compliance")
    for attempt in range(1, 200):
        if all(each.state is State.DONE for each in await compliance.requests()):
            break
        await cut_off(compliance, after=attempt)
    else:
        pytest.fail("it never came to an end")
    assert attempt > 20
    assert where_found(await dump(owner), ZEPHYRINE.data) == set()
    assert await totals(owner) == books
    await check_books(owner)


async def test_a_redaction_that_races_with_the_customers_webhooks_ends_without_them(
    compliance: Compliance, owner: SessionConnection, tenant: Tenant
) -> None:
    async def sell() -> None:
        for number in range(40):
            await compliance.deliver("orders/paid", ZEPHYRINE.order(1000 + number))
            await compliance.consume("loyalty", "gossip")

    await compliance.deliver("orders/paid", ZEPHYRINE.order(999))
    await compliance.deliver("customers/redact", ZEPHYRINE.redact(tenant.shop.domain))
    await compliance.consume("compliance", "loyalty")
    selling = asyncio.create_task(sell())
    connection = await compliance.database.connect(Login.OWNER, purpose="test")
    while not selling.done():
        await connection.execute("UPDATE compliance_requests SET next_at = clock_timestamp()")
        await compliance.job.run(connection)
    await selling
    await connection.close()
    await compliance.consume()
    await compliance.let_time_pass()
    await compliance.run()
    await compliance.fulfil()
    assert where_found(await dump(owner), ZEPHYRINE.data) == set()
    assert await owner.fetchval("SELECT sum(balance) FROM accounts WHERE kind = 'customer'") == 41 * 25
    await check_books(owner)


async def test_a_request_is_not_finished_while_a_transaction_from_before_is_open(
    compliance: Compliance, owner: SessionConnection, tenant: Tenant
) -> None:
    await compliance.deliver("orders/paid", ZEPHYRINE.order(1000))
    await compliance.deliver("customers/redact", ZEPHYRINE.redact(tenant.shop.domain))
    await compliance.consume("compliance")
    async with compliance.worker.acquire() as straggler:
        await straggler.execute("BEGIN; SELECT pg_current_xact_id()")
        await compliance.step()
        assert await compliance.step() == 0
        assert [each.state for each in await compliance.requests()] == [State.SETTLING]
        assert (await compliance.requests())[0].last_error == "compliance.unsettled"
        await straggler.execute("COMMIT")
    await compliance.fulfil()
    assert [each.state for each in await compliance.requests()] == [State.DONE]


async def test_what_an_event_said_is_gone_and_that_it_came_is_not(
    compliance: Compliance, owner: SessionConnection, tenant: Tenant
) -> None:
    event_id = await compliance.deliver("orders/paid", ZEPHYRINE.order(1000))
    await compliance.deliver("customers/redact", ZEPHYRINE.redact(tenant.shop.domain))
    await compliance.consume("compliance")
    await compliance.fulfil()
    event = await owner.fetchrow("SELECT topic, key, payload FROM events WHERE event_id = $1", event_id)
    assert event is not None
    assert (event["topic"], event["key"]) == ("shopify.orders.paid", "order:1000")
    assert orjson.loads(event["payload"]) == {
        "id": 1000,
        "name": "#1000",
        "currency": "USD",
        "presentment_currency": "USD",
        "subtotal_price": "25.00",
        "financial_status": "paid",
        "created_at": "2026-11-22T09:00:00+00:00",
        "updated_at": "2026-11-22T09:00:00+00:00",
        "cancelled_at": None,
        "line_items": [{"id": 10000, "quantity": 1, "price": "25.00"}],
        "refunds": [],
        "erased_by": 1,
    }
