"""The audit finds every order without its effect; peers and backlog leave the rows that Sellflow leaves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest

from benchmarks.backlog import batches_before, queue_orders
from benchmarks.books import Books, BooksAudit, CustomerBooks, audit_books, differing, read_books
from benchmarks.drain_turns import time_drain
from benchmarks.errors import BenchmarkError
from benchmarks.paid_orders import Award, PaidOrders, order_id, points_by_customer
from benchmarks.peers.install import HERE
from benchmarks.peers.queue_workers import ISSUED_ACCOUNT
from sellflow.loyalty.handlers import record_orders
from sellflow.loyalty.payloads import parse_news
from sellflow.postgres.database import Database, Pool, SessionConnection
from sellflow.postgres.transactions import batch_transaction
from sellflow.queue.claims import claim, take
from sellflow.queue.registry import Registry
from sellflow.queue.topics import Event, Outbox
from sellflow.webhooks.store import Delivery, DeliveryStore
from tests.conftest import Tenant, make_tenant

MOMENT = datetime(2026, 11, 22, tzinfo=UTC)
AWARDS = {1: Award(7, 10), 2: Award(7, 5), 3: Award(8, 1)}
RIGHT = Books(
    orders=frozenset({1, 2, 3}),
    transfers={1: 1, 2: 1, 3: 1},
    customers={7: CustomerBooks(15, 15, 15), 8: CustomerBooks(1, 1, 1)},
    lines=6,
    entries_sum=0,
)
AWARD_ORDER = "SELECT award_order($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)"


@pytest.fixture
def orders() -> PaidOrders:
    return PaidOrders(seed=1, moment=MOMENT, customers=3)


def address_of(database: Database) -> str:
    return f"{database.session_url}&user=postgres"


def test_right_books_are_clean() -> None:
    assert audit_books(RIGHT, AWARDS) == BooksAudit(orders=3, lost=0, doubled=0, wrong=0, unbalanced=0)
    assert audit_books(RIGHT, AWARDS).is_clean


@pytest.mark.parametrize(
    ("books", "found"),
    [
        (replace(RIGHT, orders=frozenset({1, 2})), {"lost": 1}),
        (replace(RIGHT, transfers={1: 1, 2: 1}), {"lost": 1}),
        (replace(RIGHT, transfers={1: 1, 2: 2, 3: 3}), {"doubled": 2}),
        (replace(RIGHT, customers={**RIGHT.customers, 8: CustomerBooks(2, 2, 2)}), {"wrong": 1}),
        (replace(RIGHT, customers={**RIGHT.customers, 9: CustomerBooks(1, 1, 1)}), {"wrong": 1}),
        (replace(RIGHT, customers={**RIGHT.customers, 8: CustomerBooks(1, 2, 1)}), {"unbalanced": 1}),
        (replace(RIGHT, customers={**RIGHT.customers, 8: CustomerBooks(1, 1, 0)}), {"unbalanced": 1}),
        (replace(RIGHT, entries_sum=1), {"unbalanced": 1}),
    ],
)
def test_whatever_is_not_right_is_found(books: Books, found: dict[str, int]) -> None:
    clean = BooksAudit(orders=3, lost=0, doubled=0, wrong=0, unbalanced=0)
    assert audit_books(books, AWARDS) == replace(clean, **found)
    assert not audit_books(books, AWARDS).is_clean


def test_sides_with_other_rows_than_the_first_are_named() -> None:
    assert differing({"a": RIGHT, "b": RIGHT}) == []
    others = {"lines": replace(RIGHT, lines=5), "orders": replace(RIGHT, orders=frozenset({1, 2}))}
    assert differing({"a": RIGHT, "b": RIGHT, **others}) == ["lines", "orders"]


def test_points_are_worked_out_from_the_payload_and_rounded_down(orders: PaidOrders) -> None:
    payload = json.loads(orders.payload(4))
    assert orders.award(4) == Award(payload["customer"]["id"], int(Decimal(payload["subtotal_price"])))
    assert payload["id"] == order_id(4)
    assert points_by_customer(AWARDS.values()) == {7: 15, 8: 1}


def test_orders_are_written_one_a_line(orders: PaidOrders, tmp_path: Path) -> None:
    orders.write(tmp_path / "orders", range(2, 4))
    lines = (tmp_path / "orders").read_bytes().splitlines()
    assert lines == [orders.payload(2), orders.payload(3)]


async def sellflow_books_orders(pool: Pool, shop_id: int, payloads: Sequence[bytes]) -> None:
    events = [
        Event(date(2026, 11, 22), number, shop_id, "shopify.orders.paid", "", payload, MOMENT)
        for number, payload in enumerate(payloads)
    ]
    async with pool.acquire() as connection, batch_transaction(connection, [shop_id]):
        await record_orders(connection, [(event, parse_news(event)) for event in events], Outbox())


def peer_books_order(connection: psycopg.Connection, shop_id: int, payload: bytes) -> None:
    order = json.loads(payload)
    lines = order["line_items"]
    first = ("id", "name", "currency", "subtotal_price", "financial_status", "created_at", "updated_at")
    columns = ("id", "product_id", "variant_id", "quantity", "price", "total_discount")
    values = [shop_id, *(order[name] for name in first), order["customer"]["id"]]
    psycopg.RawCursor(connection).execute(
        AWARD_ORDER, [*values, *([line[column] for line in lines] for column in columns)]
    )


@pytest.mark.parametrize(
    "rows",
    [
        (
            "SELECT order_id, name, currency, presentment_currency, subtotal, presentment_subtotal, financial_status,"
            " ordered_at, cancelled_at, revised_at, customer_id, customer_revised_at, program_version FROM orders"
        ),
        "SELECT order_id, line_id, product_id, variant_id, quantity, price, discount FROM order_lines",
        "SELECT kind, source, revision, points, ARRAY(SELECT jsonb_object_keys(snapshot) ORDER BY 1) FROM transfers",
        (
            "SELECT a.kind, a.customer_id, e.points, e.balance_after FROM entries e JOIN accounts a USING (account_id)"
            " WHERE e.shop_id"
        ),
        (
            "SELECT a.customer_id, l.points, l.remaining, l.expires_at FROM lots l JOIN accounts a USING (account_id)"
            " WHERE l.shop_id"
        ),
        "SELECT kind, customer_id, balance FROM accounts",
    ],
)
async def test_a_peer_leaves_the_rows_that_sellflow_leaves(
    database: Database, owner: SessionConnection, worker_pool: Pool, tenant: Tenant, *, orders: PaidOrders, rows: str
) -> None:
    payloads = [orders.payload(number) for number in range(5)]
    peer = await make_tenant(owner, "peer")
    await sellflow_books_orders(worker_pool, tenant.shop_id, payloads)
    with psycopg.connect(address_of(database)) as connection:
        connection.execute((HERE / "award_order.sql").read_bytes())
        connection.execute(ISSUED_ACCOUNT.replace("FROM shops", f"FROM shops WHERE shop_id = {peer.shop_id}").encode())
        for payload in [*payloads, payloads[0]]:
            peer_books_order(connection, peer.shop_id, payload)
    query = f"{rows if 'WHERE' in rows else f'{rows} WHERE shop_id'} = $1"
    ours, theirs = [sorted(map(repr, await owner.fetch(query, shop.shop_id))) for shop in (tenant, peer)]
    assert ours
    assert ours == theirs


async def test_books_are_read_from_the_tables(
    database: Database, owner: SessionConnection, worker_pool: Pool, tenant: Tenant, orders: PaidOrders
) -> None:
    await sellflow_books_orders(worker_pool, tenant.shop_id, [orders.payload(number) for number in range(5)])
    books = read_books(address_of(database))
    assert audit_books(books, orders.awards(range(5))).is_clean
    assert books.lines == 10
    assert audit_books(books, orders.awards(range(6))).lost == 1
    await owner.execute("UPDATE accounts SET balance = balance + 1 WHERE kind = 'customer'")
    spoilt = audit_books(read_books(address_of(database)), orders.awards(range(5)))
    assert (spoilt.wrong, spoilt.unbalanced) == (3, 3)


async def test_the_backlog_is_stored_as_the_endpoint_stores(
    database: Database,
    owner: SessionConnection,
    worker_pool: Pool,
    *,
    ingest_pool: Pool,
    registry: Registry,
    tenant: Tenant,
    other_tenant: Tenant,
) -> None:
    with psycopg.connect(address_of(database), autocommit=True) as filling:
        newest = queue_orders(filling, first=0, count=4, first_shop=1, shops=2)
    found = await claim(worker_pool, "loyalty", visibility_timeout=30, quantity=10, after_shop=0)
    assert max(each.msg_id for each in found.claims) == newest
    shops = [tenant.shop_id, other_tenant.shop_id]
    assert sorted(each.shop_id for each in found.claims) == [shops[0], shops[0], shops[1], shops[1]]
    async with worker_pool.acquire() as connection, batch_transaction(connection, shops):
        taken = await take(connection, "loyalty", found.claims)
        await record_orders(connection, [(event, parse_news(event)) for _, event in taken], Outbox())
    assert await owner.fetchval("SELECT sum(points) FROM transfers") == 4 * 25
    first = min(taken, key=lambda pair: pair[1].event_id)[1]
    domain = tenant.shop.domain
    delivery = Delivery(tenant.app.app_id, domain, "w", first.topic, first.key, None, first.payload)
    await DeliveryStore(ingest_pool, registry).store([delivery])
    stored = await owner.fetch(
        "SELECT topic, shop_id, shop_domain, payload, (SELECT message - 'event_id' FROM pgmq.q_loyalty) AS message"
        " FROM events WHERE webhook_id = 'w' OR event_id = $1 ORDER BY event_id",
        first.event_id,
    )
    assert len(stored) == 2
    assert tuple(stored[0]) == tuple(stored[1])
    assert json.loads(stored[0]["message"]) == {
        "day": f"{first.day}",
        "shop_id": first.shop_id,
        "key": first.key,
    }


class EagerWorker:
    """A worker that is done as soon as it starts."""

    name = "eager"

    def __init__(self, address: str, shop_id: int, payloads: Sequence[bytes]) -> None:
        self._address = address
        self._shop_id = shop_id
        self._payloads = payloads

    def work(self) -> None:
        with psycopg.connect(self._address) as connection:
            for payload in self._payloads:
                peer_books_order(connection, self._shop_id, payload)

    def processes(self) -> dict[str, int]:
        return {"worker": 1}

    def said(self) -> str:
        return "nothing more to do"


async def test_a_drain_is_timed_from_its_first_transaction_to_its_last_effect(
    database: Database, tenant: Tenant, orders: PaidOrders
) -> None:
    address = address_of(database)
    with psycopg.connect(address) as connection:
        connection.execute((HERE / "award_order.sql").read_bytes())
        connection.execute(ISSUED_ACCOUNT)
        peer_books_order(connection, tenant.shop_id, orders.payload(9))
    worker = EagerWorker(address, tenant.shop_id, [orders.payload(number) for number in range(3)])
    drained = time_drain(worker, address, count=3, limit=60)
    assert drained.orders == 3
    assert drained.per_s > 0
    with pytest.raises(BenchmarkError, match="eager was not done after 0 s:\nnothing more to do"):
        time_drain(worker, address, count=1, limit=0)


def claimed(second: int, *messages: int, queue: str = "loyalty") -> str:
    moment = f"2026-11-22T00:00:{second:02d}Z"
    return json.dumps({"event": "queue.claimed", "queue": queue, "messages": messages, "timestamp": moment})


def test_the_batches_claimed_since_the_arrival_are_counted() -> None:
    lines = ["not json", claimed(1, 1, 2), claimed(3, 3), claimed(4, 9, queue="shops"), claimed(5, 4, 5), claimed(6, 6)]
    at = datetime(2026, 11, 22, 0, 0, 2, tzinfo=UTC)
    assert [batches_before(lines, message, at) for message in (2, 3, 5, 6)] == [0, 0, 1, 2]
    with pytest.raises(BenchmarkError, match="no claim of message 7"):
        batches_before(lines, 7, at)
