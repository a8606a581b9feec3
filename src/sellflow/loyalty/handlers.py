"""What loyalty does with orders and refunds: computes what is true by now, and posts the difference."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import orjson

from sellflow.errors import PermanentError
from sellflow.loyalty import store
from sellflow.loyalty.ledger import Transfer
from sellflow.loyalty.ledger_store import post_movements
from sellflow.loyalty.models import (
    Movement,
    MovementKind,
    Order,
    OrderNews,
    OrderState,
    Posted,
    Refund,
)
from sellflow.loyalty.payloads import parse_news
from sellflow.loyalty.program import Program, SpendRule
from sellflow.loyalty.program_store import ProgramVersion, read_programs, read_versions
from sellflow.loyalty.rules import changes, is_earning, reason_for_nothing, revise, target_points
from sellflow.loyalty.store import OrderKey
from sellflow.postgres.database import Connection
from sellflow.queue import EmittedEvent, Event, Outbox, Subscription

POINTS_EARNED = "loyalty.points.earned"
POINTS_CLAWED_BACK = "loyalty.points.clawed_back"
TOPIC_OF = {MovementKind.EARN: POINTS_EARNED, MovementKind.CLAWBACK: POINTS_CLAWED_BACK}

subscription = Subscription(
    "loyalty",
    {
        "shopify.orders.create": "an order was placed",
        "shopify.orders.paid": "an order was paid for",
        "shopify.orders.updated": "an order changed in any way",
        "shopify.orders.edited": "lines of an order were added or removed",
        "shopify.orders.cancelled": "an order was cancelled",
        "shopify.orders.fulfilled": "everything of an order was sent",
        "shopify.orders.partially_fulfilled": "a part of an order was sent",
        "shopify.refunds.create": "something of an order was given back",
        POINTS_EARNED: "a customer gained points",
        POINTS_CLAWED_BACK: "points were taken back after a refund, a cancellation or an edit",
    },
)


class ForeignOrderError(PermanentError):
    """A delivery names one shop in its unsigned header, and another shop of the app owns the order."""

    code = "loyalty.foreign_order"


@dataclass(frozen=True, slots=True)
class KnownOrder:
    """An order after this batch's news: its state, its refunds, the ledger's word on it, and the newest event."""

    state: OrderState
    refunds: Sequence[Refund]
    posted: Posted
    #: The one it was paid under, or the present one.
    program: Program
    event: Event

    @property
    def rule(self) -> SpendRule | None:
        """The rule by which it brings points, once it does."""
        return None if self.state.program_version is None else next(self.program.spend_rules(), None)


@subscription.handler("shopify.orders.*", "shopify.refunds.create", parse=parse_news)
async def record_orders(
    connection: Connection, batch: Sequence[tuple[Event, OrderNews]], outbox: Outbox
) -> Mapping[int, str]:
    """Record what a batch says of orders and refunds, and post what follows; any order of arrival ends alike."""
    news: dict[OrderKey, list[tuple[Event, OrderNews]]] = defaultdict(list)
    for event, each in batch:
        news[event.shop_id, each.order_id].append((event, each))
    programs = await read_programs(connection, {shop_id for shop_id, _ in news})
    states, known_before = await _record(connection, news, programs)
    pinned = await _pinned(connection, states.values(), programs)
    refunds, posted = await _read_history(connection, news, known_before)
    orders = {
        key: KnownOrder(
            state,
            refunds.get(key, ()),
            posted.get(key, Posted({}, 0)),
            pinned[key],
            news[key][-1][0],
        )
        for key, state in states.items()
    }
    movements = {key: _movements(order) for key, order in orders.items()}
    transfers = await post_movements(connection, [each for key in sorted(movements) for each in movements[key]])
    for transfer in transfers:
        outbox.emit(_announcement(transfer))
    sentences = {key: _sentence(order, movements[key]) for key, order in orders.items()}
    return {event.event_id: sentences[key] for key, events in news.items() for event, _ in events}


async def _record(
    connection: Connection,
    news: Mapping[OrderKey, Sequence[tuple[Event, OrderNews]]],
    programs: Mapping[int, ProgramVersion],
) -> tuple[dict[OrderKey, OrderState], set[OrderKey]]:
    """Bring the order tables up to date; return the states, and the keys that were there before."""
    snapshots = {key: [each.order for _, each in events if each.order] for key, events in news.items()}
    states = {key: _revised(store.unknown_order(*key), snapshots[key], programs) for key in news}
    inserted = await store.insert_new(connection, list(states.values()))
    known = set(news) - inserted
    if known:
        before = await store.lock_known(connection, known)
        _refuse_foreign(known - set(before))
        after = {key: _revised(before[key], snapshots[key], programs) for key in known}
        changed = [after[key] for key in sorted(known) if after[key] != before[key]]
        if changed:
            await store.update_known(connection, changed)
        states |= after
    winners = [(key[0], order) for key, orders in snapshots.items() for order in _winner(states[key], orders)]
    await store.write_lines(connection, winners)
    await store.write_refunds(connection, _distinct_refunds(news))
    return states, known


def _revised(state: OrderState, orders: Sequence[Order], programs: Mapping[int, ProgramVersion]) -> OrderState:
    """Fold snapshots into a state, and fix the version of its programme once it is paid for."""
    for order in orders:
        state = revise(state, order)
    in_force = programs[state.shop_id]
    gives = next(in_force.program.spend_rules(), None) is not None
    if state.program_version is None and gives and is_earning(state) and in_force.program.counts(state.ordered_at):
        state = state._replace(program_version=in_force.version)
    return state


async def _pinned(
    connection: Connection, states: Iterable[OrderState], programs: Mapping[int, ProgramVersion]
) -> dict[OrderKey, Program]:
    """Return the programme of each order: the one it was paid under, or the present one."""
    elder = {
        (state.shop_id, state.program_version)
        for state in states
        if state.program_version not in (None, programs[state.shop_id].version)
    }
    known = {(each.shop_id, each.version): each.program for each in programs.values()}
    known |= await read_versions(connection, {(shop_id, version) for shop_id, version in elder if version})
    return {
        (state.shop_id, state.order_id): known[state.shop_id, state.program_version or programs[state.shop_id].version]
        for state in states
    }


def _winner(state: OrderState, orders: Sequence[Order]) -> list[Order]:
    """Return the snapshot that the state was taken from, when it is one of this batch's."""
    winning = (state.revised_at, state.revision_rank)
    return [order for order in orders if (order.revised_at, order.revision_rank) == winning][:1]


def _distinct_refunds(news: Mapping[OrderKey, Sequence[tuple[Event, OrderNews]]]) -> list[tuple[int, Refund]]:
    """Return the batch's refunds, each once, with the largest amount that was told of it."""
    distinct: dict[tuple[int, int], Refund] = {}
    for (shop_id, _), events in news.items():
        for _, each in events:
            for refund in each.refunds:
                before = distinct.get((shop_id, refund.refund_id))
                if before is None or before.amount < refund.amount:
                    distinct[shop_id, refund.refund_id] = refund
    return [(shop_id, refund) for (shop_id, _), refund in distinct.items()]


def _refuse_foreign(missing: Collection[OrderKey]) -> None:
    if missing:
        listed = ", ".join(str(order_id) for _, order_id in sorted(missing))
        raise ForeignOrderError(
            f"order {listed} belongs to another shop of this app: the delivery's shop header is not signed and "
            "names the wrong one"
        )


async def _read_history(
    connection: Connection,
    news: Mapping[OrderKey, Sequence[tuple[Event, OrderNews]]],
    known_before: set[OrderKey],
) -> tuple[Mapping[OrderKey, Sequence[Refund]], Mapping[OrderKey, Posted]]:
    """Return refunds and postings where there can be any: an order first seen now has no posting."""
    refunded = {key for key, events in news.items() if any(each.refunds for _, each in events)}
    with_refunds = refunded | known_before
    refunds = await store.read_refunds(connection, with_refunds) if with_refunds else {}
    posted = await store.read_posted(connection, known_before) if known_before else {}
    return refunds, posted


def _movements(order: KnownOrder) -> list[Movement]:
    state, rule = order.state, order.rule
    if rule is None:
        return []
    target = target_points(state, order.refunds, rule)
    return [
        Movement(
            shop_id=state.shop_id,
            customer_id=change.customer_id,
            kind=change.kind,
            points=change.points,
            source=store.order_source(state.order_id),
            rule=rule.id,
            revision=order.posted.revision + number,
            snapshot=_snapshot(order, rule, target),
            day=order.event.day,
            event_id=order.event.event_id,
        )
        for number, change in enumerate(changes(state, target, order.posted), start=1)
    ]


def _snapshot(order: KnownOrder, rule: SpendRule, target: int) -> dict[str, object]:
    """Return what the points were computed from, kept with the transfer for good."""
    state = order.state
    return {
        "order": state.name,
        "program_version": order.state.program_version,
        "points_per_unit": str(rule.points_per_unit.normalize()),
        "rounding": rule.rounding.value,
        "currency": state.currency,
        "subtotal": str(state.subtotal),
        "refunds": len(order.refunds),
        "financial_status": state.financial_status,
        "target": target,
    }


def _sentence(order: KnownOrder, movements: Sequence[Movement]) -> str:
    if not movements:
        return reason_for_nothing(order.state, order.program)
    return "; ".join(
        f"{'earned' if each.points > 0 else 'took back'} {abs(each.points)} points, customer {each.customer_id}"
        for each in movements
    )


def _announcement(transfer: Transfer) -> EmittedEvent:
    movement = transfer.movement
    payload = {
        "transfer_id": transfer.transfer_id,
        "customer_id": movement.customer_id,
        "points": movement.points,
        "balance": transfer.balance_after,
        "source": movement.source,
    }
    return EmittedEvent(
        movement.shop_id, TOPIC_OF[movement.kind], f"customer:{movement.customer_id}", orjson.dumps(payload)
    )
