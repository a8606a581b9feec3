"""The arithmetic of points."""

from __future__ import annotations

from datetime import timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Decimal
from functools import reduce
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sellflow.loyalty.models import MovementKind, Order, OrderState, Posted, Refund, Rounding
from sellflow.loyalty.program import Program, SpendRule
from sellflow.loyalty.rules import (
    MOST_POINTS,
    AbsurdPointsError,
    Change,
    changes,
    points_for,
    reason_for_nothing,
    revise,
    target_points,
)
from sellflow.loyalty.store import unknown_order
from tests.loyalty.orders import MORNING

LATER = MORNING + timedelta(days=1)

money = st.integers(0, 10**7).map(lambda number: Decimal(number) / 100)
rates = st.integers(1, 2000).map(lambda number: Decimal(number) / 100)


def rule(rate: Decimal | str = "1", rounding: Rounding = Rounding.DOWN) -> SpendRule:
    return SpendRule(id="spend", kind="spend", points_per_unit=Decimal(rate), rounding=rounding)


rules = st.builds(rule, rates, st.sampled_from(Rounding))


def snapshot(
    second: int = 0, *, subtotal: Decimal = Decimal(100), status: str = "paid", customer: int | None = 7, rank: str = ""
) -> Order:
    return Order(
        order_id=1,
        name="#1",
        customer_id=customer,
        currency="USD",
        presentment_currency="EUR",
        subtotal=subtotal,
        presentment_subtotal=subtotal,
        financial_status=status,
        ordered_at=MORNING,
        cancelled_at=None,
        revised_at=MORNING + timedelta(seconds=second),
        revision_rank=rank,
        lines=(),
    )


def state(*snapshots: Order) -> OrderState:
    return reduce(revise, snapshots, unknown_order(1, 1))


def refund(amount: Decimal, currency: str | None = None) -> Refund:
    return Refund(1, 1, amount, currency, MORNING, ())


@pytest.mark.parametrize(
    ("amount", "rate", "down", "half_up", "up"),
    [
        ("0", "1", 0, 0, 0),
        ("0.01", "1", 0, 0, 1),
        ("0.49", "1", 0, 0, 1),
        ("0.50", "1", 0, 1, 1),
        ("1.50", "1", 1, 2, 2),
        ("2.50", "1", 2, 3, 3),
        ("99.99", "1", 99, 100, 100),
        ("100.00", "1", 100, 100, 100),
        ("33.33", "3", 99, 100, 100),
        ("19.99", "0.05", 0, 1, 1),
        ("0.07", "100", 7, 7, 7),
        ("1.10", "10", 11, 11, 11),
    ],
)
def test_points_are_made_whole_as_the_rule_says(amount: str, rate: str, down: int, half_up: int, up: int) -> None:
    found = [points_for(Decimal(amount), rule(rate, rounding)) for rounding in Rounding]
    assert found == [down, half_up, up]


@given(money, rules)
def test_points_are_exact_arithmetic(amount: Decimal, spend: SpendRule) -> None:
    way = {"down": ROUND_FLOOR, "half_up": ROUND_HALF_UP, "up": ROUND_CEILING}[spend.rounding]
    assert points_for(amount, spend) == int((amount * spend.points_per_unit).to_integral_value(way))


def test_more_points_than_can_be_counted_exactly_are_refused() -> None:
    assert points_for(Decimal(MOST_POINTS), rule()) == MOST_POINTS
    with pytest.raises(AbsurdPointsError):
        points_for(Decimal(MOST_POINTS) + 1, rule())


@st.composite
def splits(draw: st.DrawFn) -> tuple[Decimal, list[Decimal]]:
    """An amount in cents, and a way to cut it into parts."""
    whole = draw(st.integers(0, 10**6))
    cuts = sorted(draw(st.lists(st.integers(0, whole), max_size=6)))
    parts = [high - low for low, high in zip([0, *cuts], [*cuts, whole], strict=True)]
    return Decimal(whole) / 100, [Decimal(part) / 100 for part in parts]


@given(splits(), money, rules)
def test_any_split_of_a_refund_takes_back_the_same(
    split: tuple[Decimal, list[Decimal]], rest: Decimal, spend: SpendRule
) -> None:
    whole, parts = split
    known = state(snapshot(subtotal=whole + rest))
    assert target_points(known, map(refund, parts), spend) == target_points(known, [refund(whole)], spend)


@given(splits(), money, st.integers(1, 10**7), st.randoms(use_true_random=False))
@example((Decimal("27.01"), [Decimal("10.00"), Decimal("17.01")]), Decimal("54.02"), 9000, Random(1))
@example((Decimal("3.00"), [Decimal(1)] * 3), Decimal(0), 1000, Random(1))
@example((Decimal("7.00"), [Decimal(1)] * 7), Decimal(0), 1000, Random(1))
def test_any_split_and_order_of_refunds_in_the_customers_currency_takes_back_the_same(
    split: tuple[Decimal, list[Decimal]], rest: Decimal, shop_cents: int, chance: Random
) -> None:
    whole, parts = split
    known = state(snapshot(subtotal=Decimal(shop_cents) / 100))._replace(presentment_subtotal=whole + rest)
    at_once = target_points(known, [refund(whole, "EUR")], rule())
    assert target_points(known, [refund(part, "EUR") for part in parts], rule()) == at_once
    chance.shuffle(parts)
    assert target_points(known, [refund(part, "EUR") for part in parts], rule()) == at_once


@given(money, st.lists(money, max_size=6), rules)
def test_what_is_left_is_never_below_nothing_nor_above_what_was_earned(
    subtotal: Decimal, refunds: list[Decimal], spend: SpendRule
) -> None:
    known = state(snapshot(subtotal=subtotal))
    left = [target_points(known, map(refund, refunds[:number]), spend) for number in range(len(refunds) + 1)]
    assert left[0] == points_for(subtotal, spend)
    assert left == sorted(left, reverse=True)
    assert left[-1] >= 0
    if sum(refunds) >= subtotal:
        assert left[-1] == 0


@pytest.mark.parametrize("status", ["pending", "authorized", "partially_paid", "voided", "refunded", "", "unheard-of"])
def test_an_order_that_is_not_paid_or_given_back_whole_is_worth_nothing(status: str) -> None:
    assert target_points(state(snapshot(status=status)), [], rule()) == 0


def test_a_cancelled_order_is_worth_nothing() -> None:
    assert target_points(state(snapshot())._replace(cancelled_at=MORNING), [], rule()) == 0


def test_a_refund_before_its_order_is_worth_nothing_yet() -> None:
    assert target_points(unknown_order(1, 1), [refund(Decimal(5))], rule()) == 0


snapshots = st.lists(
    st.builds(
        snapshot,
        st.integers(0, 3),
        subtotal=money,
        status=st.sampled_from(["pending", "paid", "partially_refunded"]),
        customer=st.sampled_from([None, 7, 8]),
        rank=st.sampled_from("abc"),
    ),
    max_size=6,
    # Shopify's snapshots of one moment and rank are one snapshot: the rank ends in a digest of the body.
    unique_by=lambda order: (order.revised_at, order.revision_rank),
)


@given(snapshots, st.randoms(use_true_random=False))
def test_snapshots_lead_to_the_same_state_in_any_order_and_however_often(heard: list[Order], chance: Random) -> None:
    again = [*heard, *heard[::2]]
    chance.shuffle(again)
    assert state(*again) == state(*heard)


@given(snapshots)
def test_the_newest_snapshot_and_the_newest_customer_win(heard: list[Order]) -> None:
    known = state(*heard)
    if heard:
        newest = max(heard, key=lambda order: (order.revised_at, order.revision_rank))
        assert (known.subtotal, known.financial_status) == (newest.subtotal, newest.financial_status)
    named = [(order.revised_at, order.customer_id) for order in heard if order.customer_id is not None]
    assert known.customer_id == (max(named)[1] if named else None)


posted = st.dictionaries(st.integers(1, 4), st.integers(-50, 200), max_size=3)


@given(posted, st.sampled_from([None, 1, 2, 9]), st.integers(0, 300))
def test_changes_turn_what_is_posted_into_what_is_true_and_then_there_is_nothing_to_change(
    before: dict[int, int], customer: int | None, target: int
) -> None:
    known = state(snapshot())._replace(customer_id=customer)
    found = changes(known, target, Posted(before, 3))
    after = dict(before)
    for change in found:
        assert change.points != 0
        assert change.kind is (MovementKind.EARN if change.points > 0 else MovementKind.CLAWBACK)
        after[change.customer_id] = after.get(change.customer_id, 0) + change.points
    assert {key: points for key, points in after.items() if points} == (
        {customer: target} if customer and target else {}
    )
    assert changes(known, target, Posted(after, 4)) == []


def test_an_order_that_moved_is_taken_from_the_one_and_given_to_the_other() -> None:
    known = state(snapshot())._replace(customer_id=2)
    assert changes(known, 25, Posted({1: 25}, 1)) == [
        Change(1, MovementKind.CLAWBACK, -25),
        Change(2, MovementKind.EARN, 25),
    ]


@pytest.mark.parametrize(
    ("known", "program", "words"),
    [
        (unknown_order(1, 1), Program(rules=(rule(),)), "has not arrived yet"),
        (state(snapshot()), Program(), "no earning rule"),
        (state(snapshot())._replace(cancelled_at=MORNING), Program(rules=(rule(),)), "was cancelled"),
        (state(snapshot(status="partially_paid")), Program(rules=(rule(),)), "is partially paid"),
        (state(snapshot(customer=None)), Program(rules=(rule(),)), "no customer yet"),
        (state(snapshot()), Program(rules=(rule(),)), "already says so"),
        (state(snapshot()), Program(rules=(rule(),), starts_at=LATER), f"elder than {LATER:%Y-%m-%d}"),
    ],
)
def test_there_is_a_reason_for_nothing(known: OrderState, program: Program, words: str) -> None:
    assert words in reason_for_nothing(known, program)
