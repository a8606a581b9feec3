"""What an order is worth in points: pure arithmetic on exact decimals."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Decimal

from sellflow.errors import PermanentError
from sellflow.loyalty.models import (
    PAID_STATUSES,
    MovementKind,
    Order,
    OrderState,
    Posted,
    Refund,
    Rounding,
)
from sellflow.loyalty.program import Program, SpendRule

ROUNDINGS = {Rounding.DOWN: ROUND_FLOOR, Rounding.HALF_UP: ROUND_HALF_UP, Rounding.UP: ROUND_CEILING}
#: JSON readers keep whole numbers exact up to here.
MOST_POINTS = 2**53 - 1


class AbsurdPointsError(PermanentError):
    """An order would be worth more points than can be counted exactly."""

    code = "loyalty.absurd_points"


@dataclass(frozen=True, slots=True)
class Change:
    """What has to be posted for a customer so that the ledger says what is true, and why."""

    customer_id: int
    kind: MovementKind
    points: int


def points_for(amount: Decimal, rule: SpendRule) -> int:
    """Return the whole points that `amount` of shop money is worth."""
    exact = amount * rule.points_per_unit
    if exact > MOST_POINTS:
        raise AbsurdPointsError(f"{amount} at {rule.points_per_unit} points a unit cannot be counted exactly")
    return int(exact.quantize(Decimal(1), rounding=ROUNDINGS[rule.rounding]))


def is_earning(state: OrderState) -> bool:
    """Say whether an order has been paid for, and so decides its rule version now at the latest."""
    return state.revised_at is not None and state.financial_status in PAID_STATUSES


def target_points(state: OrderState, refunds: Iterable[Refund], rule: SpendRule) -> int:
    """Return the net points that an order should have brought its customer by now.

    What was given back is taken off as round(all refunds together), so that partial refunds add up to the whole
    whatever their number, and never more than the order earned.
    """
    if not is_earning(state) or state.cancelled_at is not None or state.financial_status == "refunded":
        return 0
    refunded = refunded_in_shop_money(state, refunds)
    earned = points_for(state.subtotal, rule)
    return earned - min(earned, points_for(min(refunded, state.subtotal), rule))


def refunded_in_shop_money(state: OrderState, refunds: Iterable[Refund]) -> Decimal:
    """Return what refunds amount to in shop money, at the rate the order itself was converted at.

    What is in the customer's currency is added up before it is converted: parts that are converted one by one each
    lose a little, and three thirds would take back less than the whole.
    """
    in_shop_money = in_presentment = Decimal(0)
    for refund in refunds:
        if refund.currency in (None, state.currency) or state.presentment_subtotal == 0:
            in_shop_money += refund.amount
        else:
            in_presentment += refund.amount
    if in_presentment:
        in_shop_money += in_presentment * state.subtotal / state.presentment_subtotal
    return in_shop_money


def changes(state: OrderState, target: int, posted: Posted) -> list[Change]:
    """Return what turns the ledger's word on an order into the target.

    Whatever arrived in between, and however often, only the difference is posted. An order that moved to another
    customer is taken from the one and given to the other.
    """
    wanted = dict.fromkeys(posted.points, 0)
    if state.customer_id is not None:
        wanted[state.customer_id] = target
    differences = ((customer, points - posted.points.get(customer, 0)) for customer, points in sorted(wanted.items()))
    return [
        Change(customer, MovementKind.EARN if points > 0 else MovementKind.CLAWBACK, points)
        for customer, points in differences
        if points
    ]


def revise(state: OrderState, order: Order) -> OrderState:
    """Return the state after hearing of `order`: the newest snapshot wins, whatever order they arrive in.

    The customer is that of the newest snapshot that names one: an express checkout has none at first, and an older
    delivery that arrives late may be the only one that does. An order whose customer was erased gets none again.
    """
    customer_id, customer_revised_at = state.customer_id, state.customer_revised_at
    if order.customer_id is not None and not is_anonymous(state.customer_id) and _is_later(order, state):
        customer_id, customer_revised_at = order.customer_id, order.revised_at
    if not is_newer(order, state):
        return state._replace(customer_id=customer_id, customer_revised_at=customer_revised_at)
    return state._replace(
        name=order.name,
        currency=order.currency,
        presentment_currency=order.presentment_currency,
        subtotal=order.subtotal,
        presentment_subtotal=order.presentment_subtotal,
        financial_status=order.financial_status,
        ordered_at=order.ordered_at,
        cancelled_at=order.cancelled_at,
        revised_at=order.revised_at,
        revision_rank=order.revision_rank,
        customer_id=customer_id,
        customer_revised_at=customer_revised_at,
    )


def is_anonymous(customer_id: int | None) -> bool:
    """Say whether a customer's id means nobody: it took an erased one's place. Shopify's are positive."""
    return customer_id is not None and customer_id < 0


def is_newer(order: Order, state: OrderState) -> bool:
    """Say whether a snapshot is newer than the one the state was taken from."""
    if state.revised_at is None:
        return True
    return (order.revised_at, order.revision_rank) > (state.revised_at, state.revision_rank)


def _is_later(order: Order, state: OrderState) -> bool:
    """Say whether a snapshot's customer is to be believed over the known one; a tie goes to the larger id."""
    if state.customer_revised_at is None or state.customer_id is None or order.customer_id is None:
        return True
    return (order.revised_at, order.customer_id) > (state.customer_revised_at, state.customer_id)


def reason_for_nothing(state: OrderState, program: Program) -> str:  # noqa: PLR0911 - one return for each reason
    """Say in one sentence why an order has no points (yet); none of it is an error.

    `program` is the one that the order was paid under, or the shop's present one where it was not yet.
    """
    if state.revised_at is None:
        return "kept: the order itself has not arrived yet"
    if next(program.spend_rules(), None) is None:
        return "kept: the shop has no earning rule"
    if state.program_version is None and not program.counts(state.ordered_at):
        return f"worth no points: the order is elder than {program.starts_at:%Y-%m-%d}, when earning began"
    if state.cancelled_at is not None:
        return "worth no points: the order was cancelled"
    if not is_earning(state):
        return f"kept: the order is {state.financial_status.replace('_', ' ')}, points come when it is paid"
    if state.customer_id is None:
        return "kept: the order has no customer yet, points come when there is one"
    return "nothing to post: the ledger already says so"
