"""Bookkeeping: lots, shortfalls and allocations always explain the balance."""

from __future__ import annotations

from datetime import date
from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from sellflow.loyalty.ledger import Account, AccountKey, Posting, ids_needed, post
from sellflow.loyalty.models import AccountKind, Movement, MovementKind

AVAILABLE = AccountKind.AVAILABLE
Accounts = dict[AccountKey, Account]


def movement(points: int, source: str = "order:1", customer: int = 1) -> Movement:
    kind = MovementKind.EARN if points > 0 else MovementKind.CLAWBACK
    return Movement(1, customer, kind, points, source, "spend", 1, {}, date(2026, 11, 22), 1)


def new_accounts() -> Accounts:
    return {(1, customer, AVAILABLE): Account(customer, 1, customer, AVAILABLE, 0, 99) for customer in (1, 2)}


class Book:
    """Accounts, and ids that go on from posting to posting."""

    def __init__(self) -> None:
        self.accounts = new_accounts()
        self._transfers, self._lots = count(1), count(1001)

    def post(self, *movements: Movement) -> Posting:
        transfers, lots = ids_needed(movements)
        return post(
            movements,
            self.accounts,
            [next(self._transfers) for _ in range(transfers)],
            [next(self._lots) for _ in range(lots)],
        )

    def check(self) -> None:
        for account in self.accounts.values():
            lots = sum(lot.remaining for lot in account.lots)
            shortfalls = sum(each.remaining for each in account.shortfalls)
            assert account.balance == lots - shortfalls
            assert not (lots and shortfalls)
            assert all(0 <= lot.remaining <= lot.points for lot in account.lots)
            assert all(0 <= each.remaining <= each.points for each in account.shortfalls)


movements = st.lists(
    st.builds(
        movement,
        st.integers(-60, 60).filter(bool),
        st.sampled_from(["order:1", "order:2", "order:3"]),
        st.sampled_from([1, 2]),
    ),
    max_size=25,
)


@given(movements)
def test_after_every_movement_lots_less_shortfalls_are_the_balance(sequence: list[Movement]) -> None:
    book = Book()
    balances = {1: 0, 2: 0}
    for each in sequence:
        posting = book.post(each)
        balances[each.customer_id] += each.points
        assert posting.transfers[0].balance_after == balances[each.customer_id]
        book.check()
    assert {key: account.balance for (_, key, _), account in book.accounts.items()} == balances


@given(movements, st.data())
def test_it_makes_no_difference_how_movements_are_cut_into_batches(
    sequence: list[Movement], data: st.DataObject
) -> None:
    at_once, in_parts = Book(), Book()
    whole = at_once.post(*sequence)
    cut = data.draw(st.integers(0, len(sequence)))
    parts = [in_parts.post(*sequence[:cut]), in_parts.post(*sequence[cut:])]
    assert in_parts.accounts == at_once.accounts
    assert [each for part in parts for each in part.transfers] == whole.transfers
    totals: dict[tuple[int, int], int] = {}
    for each in (allocation for part in parts for allocation in part.allocations):
        totals[each.lot_id, each.transfer_id] = totals.get((each.lot_id, each.transfer_id), 0) + each.points
    assert totals == {(each.lot_id, each.transfer_id): each.points for each in whole.allocations}


@given(movements)
def test_allocations_account_for_all_that_left_a_lot_and_all_that_a_debit_got(sequence: list[Movement]) -> None:
    book = Book()
    posting = book.post(*sequence)
    of_lot: dict[int, int] = {}
    of_debit: dict[int, int] = {}
    for each in posting.allocations:
        assert each.points > 0
        of_lot[each.lot_id] = of_lot.get(each.lot_id, 0) + each.points
        of_debit[each.transfer_id] = of_debit.get(each.transfer_id, 0) + each.points
    open_debits = {
        each.transfer_id: each.remaining for account in book.accounts.values() for each in account.shortfalls
    }
    for account in book.accounts.values():
        for lot in account.lots:
            assert of_lot.get(lot.lot_id, 0) == lot.points - lot.remaining
    for transfer in posting.transfers:
        if transfer.movement.points < 0:
            covered = of_debit.get(transfer.transfer_id, 0) + open_debits.get(transfer.transfer_id, 0)
            assert covered == -transfer.movement.points


def taken(posting: Posting) -> list[tuple[int, int]]:
    return [(each.lot_id, each.points) for each in posting.allocations]


def test_a_clawback_takes_from_its_own_order_first_and_then_from_the_eldest() -> None:
    book = Book()
    book.post(movement(10, "order:1"), movement(10, "order:2"), movement(10, "order:3"))
    assert taken(book.post(movement(-4, "order:3"))) == [(1003, 4)]
    assert taken(book.post(movement(-8, "order:3"))) == [(1003, 6), (1001, 2)]
    assert taken(book.post(movement(-15, "order:2"))) == [(1002, 10), (1001, 5)]


def test_what_no_lot_covers_is_owed_and_the_next_earn_pays_it_eldest_first() -> None:
    book = Book()
    book.post(movement(-10, "order:1"), movement(-5, "order:2"))
    assert book.accounts[1, 1, AVAILABLE].balance == -15
    paid = book.post(movement(12, "order:3"))
    assert [(each.transfer_id, each.points) for each in paid.allocations] == [(1, 10), (2, 2)]
    assert [each.remaining for each in book.accounts[1, 1, AVAILABLE].shortfalls] == [0, 3]
    assert [lot.remaining for lot in book.accounts[1, 1, AVAILABLE].lots] == [0]
    book.post(movement(8, "order:4"))
    assert book.accounts[1, 1, AVAILABLE].balance == 5
    book.check()


def test_customers_do_not_pay_for_each_other() -> None:
    book = Book()
    book.post(movement(10, customer=1), movement(-4, customer=2))
    assert (book.accounts[1, 1, AVAILABLE].balance, book.accounts[1, 2, AVAILABLE].balance) == (10, -4)
    book.check()
