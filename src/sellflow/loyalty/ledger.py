"""How movements become entries, lots and allocations: pure bookkeeping, no I/O.

Points that are earned open a lot; points that are taken come from lots, first in first out; what no lot covers is
a shortfall (a negative balance) that the next earn covers first, unless the shop's programme says otherwise. So at any
time

    balance = sum of what remains of the lots - sum of what remains of the shortfalls

and an allocation says exactly which debit took how much of which lot.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from sellflow.errors import PermanentError
from sellflow.loyalty.models import AccountKind, Movement, MovementKind, OnShortfall

#: A shop, one of its customers, and which of their accounts.
AccountKey = tuple[int, int, AccountKind]


class InsufficientPointsError(PermanentError):
    """A customer has fewer points to spend than were asked for."""

    code = "loyalty.insufficient_points"


@dataclass(slots=True)
class Lot:
    """Points of one earn; `remaining` of them can still be spent. Lots of an account are kept eldest first."""

    lot_id: int
    transfer_id: int
    source: str
    rule: str | None
    points: int
    remaining: int
    is_new: bool = False


@dataclass(slots=True)
class Shortfall:
    """The part of a debit that no lot covered; `remaining` of it still is not."""

    transfer_id: int
    points: int
    remaining: int
    #: Whether the next earn covers it; else only what is given by other means does.
    is_recovered: bool = True
    is_new: bool = False


@dataclass(slots=True)
class Account:
    """A customer's account while it is locked, with its open lots and shortfalls."""

    account_id: int
    shop_id: int
    customer_id: int
    kind: AccountKind
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
    accounts: dict[AccountKey, Account],
    transfer_ids: Iterable[int],
    lot_ids: Iterable[int],
) -> Posting:
    """Book `movements` in order on `accounts`; ids are drawn by the caller, as many as `ids_needed` says.

    Raises
    ------
    InsufficientPointsError
        If a movement that refuses a shortfall is larger than what can be spent.
    """
    posting = Posting()
    transfer_id, lot_id = iter(transfer_ids), iter(lot_ids)
    for movement in movements:
        account = accounts[movement.shop_id, movement.customer_id, movement.account]
        debit = next(transfer_id)
        uncovered = _book(posting, movement, account, debit, lot_id)
        if uncovered and movement.on_shortfall is OnShortfall.FORGIVE:
            _book(posting, _forgiveness(movement, debit, uncovered), account, next(transfer_id), lot_id)
    posting.allocations = merge(posting.allocations)
    return posting


def ids_needed(movements: Iterable[Movement]) -> tuple[int, int]:
    """Return how many ids of transfers and of lots booking the movements takes at most."""
    transfers = lots = 0
    for movement in movements:
        forgives = movement.points < 0 and movement.on_shortfall is OnShortfall.FORGIVE
        transfers += 1 + forgives
        lots += (movement.points > 0) + forgives
    return transfers, lots


def _book(posting: Posting, movement: Movement, account: Account, transfer_id: int, lot_ids: Iterator[int]) -> int:
    """Book one movement and return how much of a debit no lot covered."""
    uncovered = 0
    account.balance += movement.points
    if movement.points > 0:
        points = movement.points
        lot = Lot(next(lot_ids), transfer_id, movement.source, movement.rule, points, points, is_new=True)
        posting.allocations += _cover_shortfalls(account, lot, earned=movement.kind is MovementKind.EARN)
        account.lots.append(lot)
    else:
        taken, uncovered = _take(account, movement, transfer_id)
        posting.allocations += taken
        if uncovered and movement.on_shortfall is OnShortfall.REFUSE:
            have = -movement.points - uncovered
            raise InsufficientPointsError(f"{-movement.points} points are needed and there are {have}")
        if uncovered:
            is_recovered = movement.on_shortfall is not OnShortfall.ALLOW
            account.shortfalls.append(Shortfall(transfer_id, uncovered, uncovered, is_recovered, is_new=True))
    posting.transfers.append(Transfer(transfer_id, movement, account, account.balance))
    return uncovered


def _forgiveness(movement: Movement, transfer_id: int, points: int) -> Movement:
    """Return what brings a balance back to zero after a debit that took more than there was."""
    return movement._replace(
        kind=MovementKind.FORGIVE,
        points=points,
        source=f"forgiven:{transfer_id}",
        rule=None,
        revision=1,
        snapshot={"for": movement.source, "kind": movement.kind.value, "taken": -movement.points},
    )


def _cover_shortfalls(account: Account, lot: Lot, *, earned: bool) -> list[Allocation]:
    covered = []
    for shortfall in account.shortfalls:
        points = min(shortfall.remaining, lot.remaining)
        if points and (shortfall.is_recovered or not earned):
            shortfall.remaining -= points
            lot.remaining -= points
            covered.append(Allocation(lot.lot_id, shortfall.transfer_id, account, points))
    return covered


def _take(account: Account, movement: Movement, transfer_id: int) -> tuple[list[Allocation], int]:
    """Take points from lots, and return what no lot covered.

    Those of the same source and rule come first (a clawback undoes its own earn), then those of the same source, then
    the eldest.
    """
    points = -movement.points
    taken = []
    own = (movement.source, movement.rule)
    for lot in sorted(account.lots, key=lambda lot: ((lot.source, lot.rule) != own, lot.source != movement.source)):
        part = min(points, lot.remaining)
        if part:
            lot.remaining -= part
            points -= part
            taken.append(Allocation(lot.lot_id, transfer_id, account, part))
    return taken, points


def merge(allocations: Sequence[Allocation]) -> list[Allocation]:
    """Add up allocations of one lot to one transfer."""
    merged: dict[tuple[int, int], Allocation] = {}
    for each in allocations:
        before = merged.get((each.lot_id, each.transfer_id))
        merged[each.lot_id, each.transfer_id] = replace(each, points=each.points + before.points) if before else each
    return list(merged.values())
