"""How movements become entries, lots and allocations: pure bookkeeping, no I/O.

Points that are earned open a lot; points that are taken come from lots, first in first out; what no lot covers is
a shortfall (a negative balance) that the next earn covers first. So at any time

    balance = sum of what remains of the lots - sum of what remains of the shortfalls

and an allocation says exactly which debit took how much of which lot.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from sellflow.loyalty.models import Movement


@dataclass(slots=True)
class Lot:
    """Points of one earn; `remaining` of them can still be spent. Lots of an account are kept eldest first."""

    lot_id: int
    transfer_id: int
    source: str
    points: int
    remaining: int
    is_new: bool = False


@dataclass(slots=True)
class Shortfall:
    """The part of a debit that no lot covered; `remaining` of it still is not."""

    transfer_id: int
    points: int
    remaining: int
    is_new: bool = False


@dataclass(slots=True)
class Account:
    """A customer's account while it is locked, with its open lots and shortfalls."""

    account_id: int
    shop_id: int
    customer_id: int
    balance: int
    #: The other side of what the customer earns: the shop's own account.
    issued_account_id: int
    lots: list[Lot] = field(default_factory=list)
    shortfalls: list[Shortfall] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Transfer:
    """A movement with its identity and the balance it leaves."""

    transfer_id: int
    movement: Movement
    account: Account
    balance_after: int


@dataclass(frozen=True, slots=True)
class Allocation:
    """How much of a lot a debit took."""

    lot_id: int
    transfer_id: int
    account: Account
    points: int


@dataclass(slots=True)
class Posting:
    """Everything that a batch of movements writes; the accounts are changed in place."""

    transfers: list[Transfer] = field(default_factory=list)
    allocations: list[Allocation] = field(default_factory=list)


def post(
    movements: Sequence[Movement],
    accounts: dict[tuple[int, int], Account],
    transfer_ids: Iterable[int],
    lot_ids: Iterable[int],
) -> Posting:
    """Book `movements` in order on `accounts`, keyed by (shop, customer); ids are drawn by the caller."""
    posting = Posting()
    lot_id = iter(lot_ids)
    for movement, transfer_id in zip(movements, transfer_ids, strict=True):
        account = accounts[movement.shop_id, movement.customer_id]
        account.balance += movement.points
        posting.transfers.append(Transfer(transfer_id, movement, account, account.balance))
        if movement.points > 0:
            lot = Lot(next(lot_id), transfer_id, movement.source, movement.points, movement.points, is_new=True)
            posting.allocations += _cover_shortfalls(account, lot)
            account.lots.append(lot)
        else:
            posting.allocations += _take(account, transfer_id, -movement.points, prefer=movement.source)
    posting.allocations = merge(posting.allocations)
    return posting


def _cover_shortfalls(account: Account, lot: Lot) -> list[Allocation]:
    covered = []
    for shortfall in account.shortfalls:
        points = min(shortfall.remaining, lot.remaining)
        if points:
            shortfall.remaining -= points
            lot.remaining -= points
            covered.append(Allocation(lot.lot_id, shortfall.transfer_id, account, points))
    return covered


def _take(account: Account, transfer_id: int, points: int, *, prefer: str) -> list[Allocation]:
    """Take points from lots: from those of the same source first (a clawback undoes its own earn), then the eldest."""
    taken = []
    for lot in sorted(account.lots, key=lambda lot: lot.source != prefer):
        part = min(points, lot.remaining)
        if part:
            lot.remaining -= part
            points -= part
            taken.append(Allocation(lot.lot_id, transfer_id, account, part))
    if points:
        account.shortfalls.append(Shortfall(transfer_id, points, points, is_new=True))
    return taken


def merge(allocations: Sequence[Allocation]) -> list[Allocation]:
    """Add up allocations of one lot to one transfer."""
    merged: dict[tuple[int, int], Allocation] = {}
    for each in allocations:
        before = merged.get((each.lot_id, each.transfer_id))
        merged[each.lot_id, each.transfer_id] = replace(each, points=each.points + before.points) if before else each
    return list(merged.values())
