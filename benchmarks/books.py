"""The rows that orders became, read back and checked against the payloads: an audit that trusts no one's code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import LiteralString

import psycopg

from benchmarks.paid_orders import Award, points_by_customer

TRANSFERS: LiteralString = """
SELECT split_part(source, ':', 2)::bigint, count(*)
  FROM transfers
 WHERE source LIKE 'order:%'
 GROUP BY source
"""
ORDERS: LiteralString = "SELECT order_id, 1 FROM orders"
CUSTOMERS: LiteralString = """
SELECT a.customer_id,
       sum(a.balance)::bigint,
       sum((SELECT sum(e.points) FROM entries e WHERE e.account_id = a.account_id))::bigint,
       sum((SELECT sum(l.remaining) FROM lots l WHERE l.account_id = a.account_id))::bigint
  FROM accounts a
 WHERE a.kind = 'customer'
 GROUP BY a.customer_id
"""
SUMS: LiteralString = (
    "SELECT (SELECT count(*) FROM order_lines), (SELECT COALESCE(sum(points), 0)::bigint FROM entries)"
)


@dataclass(frozen=True)
class CustomerBooks:
    """What three tables say of a customer's points: all three must agree."""

    balance: int
    entries: int
    lots: int


@dataclass(frozen=True)
class Books:
    """Rows by order id and customer; `lines` is their number, `entries_sum` must be zero."""

    orders: frozenset[int]
    transfers: Mapping[int, int]
    customers: Mapping[int, CustomerBooks]
    lines: int
    entries_sum: int


@dataclass(frozen=True)
class BooksAudit:
    """Orders without their effect, orders with more than one, and customers whose points are not what they must be.

    `unbalanced` counts customers whose balance, entries and lots disagree, and is at least one where all entries
    together do not sum to zero.
    """

    orders: int
    lost: int
    doubled: int
    wrong: int
    unbalanced: int

    @property
    def is_clean(self) -> bool:
        """Whether every order had its effect exactly once and the books agree."""
        return not (self.lost or self.doubled or self.wrong or self.unbalanced)


def read_books(address: str) -> Books:
    """Read the rows of every order, as the owner."""
    with psycopg.connect(address) as connection:
        orders = connection.execute(ORDERS).fetchall()
        transfers = connection.execute(TRANSFERS).fetchall()
        customers = connection.execute(CUSTOMERS).fetchall()
        sums = connection.execute(SUMS).fetchone() or (0, 0)
    return Books(
        orders=frozenset(int(order) for order, _ in orders),
        transfers={int(order): int(count) for order, count in transfers},
        customers={
            int(customer): CustomerBooks(int(balance), int(entries or 0), int(lots or 0))
            for customer, balance, entries, lots in customers
        },
        lines=int(sums[0]),
        entries_sum=int(sums[1]),
    )


def audit_books(books: Books, awards: Mapping[int, Award]) -> BooksAudit:
    """Compare the rows with what the orders, by id, must have brought."""
    wanted = points_by_customer(awards.values())
    found = {customer: each.balance for customer, each in books.customers.items()}
    unbalanced = sum(1 for each in books.customers.values() if not each.balance == each.entries == each.lots)
    return BooksAudit(
        orders=len(awards),
        lost=sum(1 for order in awards if order not in books.orders or not books.transfers.get(order)),
        doubled=sum(1 for count in books.transfers.values() if count > 1),
        wrong=sum(1 for customer in wanted.keys() | found.keys() if wanted.get(customer, 0) != found.get(customer, 0)),
        unbalanced=max(unbalanced, int(books.entries_sum != 0)),
    )


def differing(books: Mapping[str, Books]) -> list[str]:
    """Name the sides whose final rows are not those of the first: orders, lines, or points by customer."""
    seen = {
        name: (each.orders, each.lines, {c: b.balance for c, b in each.customers.items()})
        for name, each in books.items()
    }
    return [name for name, rows in seen.items() if rows != next(iter(seen.values()))]
