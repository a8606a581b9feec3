"""`sellflow explain order ID`: one order's whole story. It answers "why did I not get my points?"."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import typer
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from sellflow.cli.opening import as_owner, start
from sellflow.loyalty.statements import ToldOrder, ToldTransfer, find_orders, transfers_for
from sellflow.loyalty.store import order_source
from sellflow.postgres.database import SessionConnection
from sellflow.queue.story import (
    ToldAttempt,
    ToldEvent,
    ToldLetter,
    ToldMessage,
    attempts_at,
    events_about,
    letters_about,
    messages_of,
)
from sellflow.queue.topics import RECONCILED
from sellflow.shops import store as shops

console = Console(highlight=False)
explain = typer.Typer(
    help="Tell what happened to something, from the first webhook to the last point.", no_args_is_help=True
)


@dataclass(frozen=True)
class Story:
    """Everything that is known of an order."""

    order: ToldOrder | None
    events: list[ToldEvent]
    attempts: list[ToldAttempt]
    messages: list[ToldMessage]
    letters: list[ToldLetter]
    transfers: list[ToldTransfer]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.add_typer(explain, name="explain")


@explain.callback()
def _group() -> None:
    """Keep `order` a subcommand, whatever joins it later."""


@explain.command("order")
def order(
    identity: Annotated[str, typer.Argument(metavar="ID", help="Shopify's id of the order, or its name (#1001).")],
    shop: Annotated[str, typer.Option(help="The shop's domain, where several have an order of that name.")] = "",
) -> None:
    """Tell an order's story: webhooks, attempts, outcomes and movements of points."""

    async def work(connection: SessionConnection) -> list[Story]:
        shop_id = (await shops.find_shop(connection, shop)).shop_id if shop else None
        return await _stories(connection, shop_id, identity)

    stories = as_owner(start(), work)
    for story in stories:
        _show(story, identity)
    if not any(story.events or story.order for story in stories):
        raise typer.Exit(1)


async def _stories(connection: SessionConnection, shop_id: int | None, identity: str) -> list[Story]:
    orders = await find_orders(connection, shop_id, identity)
    if not orders:
        return [await _story(connection, None, shop_id, identity.removeprefix("#"))]
    return [await _story(connection, each, each.shop_id, str(each.order_id)) for each in orders]


async def _story(connection: SessionConnection, told: ToldOrder | None, shop_id: int | None, order_id: str) -> Story:
    key = f"order:{order_id}"
    events = await events_about(connection, shop_id, key)
    event_ids = sorted({event.event_id for event in events})
    return Story(
        order=told,
        events=events,
        attempts=await attempts_at(connection, event_ids),
        messages=await messages_of(connection, event_ids),
        letters=await letters_about(connection, shop_id, key),
        transfers=await transfers_for(connection, told.shop_id, order_source(told.order_id)) if told else [],
    )


def verdict(story: Story) -> str:  # noqa: PLR0911 - one return for each thing that can be said
    """Say in a sentence or two why the order has the points it has."""
    points = sum(transfer.points for transfer in story.transfers)
    unresolved = [letter for letter in story.letters if letter.state == "waiting"]
    if not story.events and story.order is None:
        return (
            "No webhook about this order has arrived. Check the id; whether the shop sends orders to this address; and "
            "whether a delivery was set aside because its body could not be read (the status page counts them)."
        )
    if unresolved and (not story.transfers or unresolved[-1].blocks_key):
        return _set_aside(unresolved[-1])
    if story.messages:
        first = story.messages[0]
        return f"On its way: a message {first.state} in the queue {first.queue} (due {first.due_at:%H:%M:%S} UTC)."
    if any(event.shop_id is None for event in story.events):
        domain = story.events[0].shop_domain
        return f"The webhooks are kept: the shop {domain} has not installed the app yet. They are handled when it does."
    if story.letters and story.letters[-1].state == "discarded" and not story.transfers:
        return f"No points: {letter_fate(story.letters[-1])}."
    if story.transfers and points > 0:
        return f"Customer {story.transfers[-1].customer_id} has {points} points from this order."
    if story.transfers:
        return f"Everything that this order earned was taken back: {_last_detail(story)}."
    return f"No points: {_last_detail(story)}."


def _set_aside(letter: ToldLetter) -> str:
    return (
        f"Set aside after {letter.attempts} attempt(s): {letter.error_message}. When the cause is mended: "
        f"sellflow deadletters replay {letter.dead_letter_id}"
    )


def letter_fate(letter: ToldLetter) -> str:
    """Say what became of a dead letter."""
    told = f"dead letter {letter.dead_letter_id} of the queue {letter.queue}"
    if letter.state == "waiting":
        return f"{told} waits to be replayed or discarded" + (
            f", after {letter.replays} replay(s)" if letter.replays else ""
        )
    when = f" at {letter.resolved_at:%Y-%m-%d %H:%M:%S}" if letter.resolved_at else ""
    why = f" ({letter.reason})" if letter.reason else ""
    return f"{told} was {letter.state}{when} by {letter.resolved_by or 'somebody'}{why}"


def _last_detail(story: Story) -> str:
    return next((event.detail for event in reversed(story.events) if event.detail), "no queue has handled it yet")


def _show(story: Story, identity: str) -> None:
    told = story.order
    title = f"Order {told.name or ''} {told.order_id}".strip() if told else f"Order {identity}"
    console.print(Panel(Text(verdict(story)), title=title, title_align="left"))
    if told and told.revised_at:
        state = "cancelled" if told.cancelled_at else told.financial_status.replace("_", " ")
        console.print(
            f"{told.subtotal:.2f} {told.currency} for items, {told.refunded:.2f} given back, {state}, "
            f"customer {told.customer_id or 'not known yet'}, "
            f"programme version {told.program_version or 'not fixed yet'}"
        )
    if story.events:
        console.print(_events_table(story))
    if story.transfers:
        console.print(_transfers_table(story))


def _events_table(story: Story) -> Table:
    table = Table(
        "Received (UTC)", "Event", "Topic", "Webhook id", "Queue", "Attempts", "What came of it", title="Events"
    )
    for event in story.events:
        failures = [each for each in story.attempts if each.event_id == event.event_id]
        told = [f"attempt {each.attempt} failed: {each.error_class}: {each.error_message}" for each in failures]
        told += [f"{m.state}, {m.queue}" for m in story.messages if m.event_id == event.event_id]
        told += [letter_fate(each) for each in story.letters if _is_of(each, event)]
        outcome = f"{event.outcome}: {event.detail}" if event.outcome else ""
        table.add_row(
            f"{event.received_at:%Y-%m-%d %H:%M:%S}",
            str(event.event_id),
            event.topic,
            "none came: found by reconciliation" if _was_found(event) else event.webhook_id or "",
            event.queue or "",
            str(event.attempts or ""),
            Text("\n".join([*told, outcome] if outcome else told) or "stored; no queue wants this topic"),
        )
    return table


def _was_found(event: ToldEvent) -> bool:
    return bool(event.webhook_id) and str(event.webhook_id).startswith(RECONCILED)


def _is_of(letter: ToldLetter, event: ToldEvent) -> bool:
    """Say whether a letter is told in the row of an event and queue; one that is on its way again has no outcome."""
    return letter.event_id == event.event_id and event.queue in (letter.queue, None)


def _transfers_table(story: Story) -> Table:
    table = Table("Posted (UTC)", "Transfer", "Customer", "Points", "Balance", "Event", "Computed from", title="Points")
    for transfer in story.transfers:
        facts = json.loads(transfer.snapshot)
        table.add_row(
            f"{transfer.created_at:%Y-%m-%d %H:%M:%S}",
            str(transfer.transfer_id),
            str(transfer.customer_id),
            f"{transfer.points:+d}",
            str(transfer.balance_after),
            str(transfer.event_id),
            _computed_from(facts),
        )
    return table


def _computed_from(facts: Mapping[str, object]) -> str:
    # What was posted before there were programmes names the version of its rule, which became the programme's.
    version = facts.get("program_version", facts.get("rule_version"))
    return (
        f"{facts['subtotal']} {facts['currency']} at {facts['points_per_unit']} rounded {facts['rounding']}, "
        f"{facts['refunds']} refunds, {facts['financial_status']}, programme version {version}"
    )
