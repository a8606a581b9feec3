"""`sellflow endpoints …`: who outside is told of events, and what came of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from sellflow.cli.opening import as_owner, start
from sellflow.errors import ConfigurationError

if TYPE_CHECKING:
    from sellflow.postgres.database import SessionConnection
    from sellflow.queue.outgoing.models import Endpoint, LoggedAttempt

console = Console(highlight=False, soft_wrap=True)

endpoints = typer.Typer(
    help="Outgoing webhooks and SNS topics: who is told of which events, and what came of it.", no_args_is_help=True
)

Id = Annotated[int, typer.Argument(metavar="ID", help="The endpoint's number in `endpoints list`.", min=1)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for a program to read.")]

#: Seconds that `test` waits for a worker to have made its attempt, and between two looks.
LONGEST_TEST = 30.0
LOOK_EVERY = 0.2


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(endpoints, name="endpoints")


@endpoints.command("add")
def add(
    address: Annotated[str, typer.Argument(help="https://… of a webhook, or the ARN of an SNS topic.")],
    topic: Annotated[list[str], typer.Option(help="A topic or pattern (* one word, # any); may be repeated.")],
    shop: Annotated[str, typer.Option(help="The shop whose events it hears; a service hears every shop.")] = "",
    description: Annotated[str, typer.Option(help="What it is, for people.")] = "",
) -> None:
    """Add an endpoint: of a shop's with --shop, of a service of your own without."""
    from sellflow.queue.outgoing.addresses import Allowance, parse_networks  # noqa: PLC0415
    from sellflow.queue.outgoing.endpoints import add_endpoint  # noqa: PLC0415
    from sellflow.roles import build_registry  # noqa: PLC0415
    from sellflow.secrets import build_vault  # noqa: PLC0415
    from sellflow.shops.store import find_shop  # noqa: PLC0415

    settings = start()
    is_closed = shop and settings.environment == "production"
    allowance = Allowance(() if is_closed else parse_networks(settings.outgoing_private_networks))

    async def work(connection: SessionConnection) -> tuple[Endpoint, str | None]:
        return await add_endpoint(
            connection,
            build_registry(settings),
            build_vault(settings),
            address=address,
            topics=topic,
            shop_id=(await find_shop(connection, shop)).shop_id if shop else None,
            allowance=allowance,
            description=description,
        )

    endpoint, secret = as_owner(settings, work)
    console.print(f"Endpoint [bold]{endpoint.endpoint_id}[/] is told of {', '.join(endpoint.topics)}.", markup=True)
    if secret:
        console.print(f"Its secret, shown this once: {secret}", markup=False)
    console.print(f"Try it: sellflow endpoints test {endpoint.endpoint_id}")


@endpoints.command("list")
def list_all(
    shop: Annotated[str, typer.Option(help="The domain of one shop, to see its endpoints alone.")] = "",
    as_json: AsJson = False,
) -> None:
    """Show the endpoints; secrets are never shown."""
    from sellflow.queue.outgoing.endpoints import list_endpoints  # noqa: PLC0415
    from sellflow.shops.store import find_shop  # noqa: PLC0415

    async def work(connection: SessionConnection) -> list[Endpoint]:
        shop_id = (await find_shop(connection, shop)).shop_id if shop else None
        return await list_endpoints(connection, shop_id=shop_id)

    found = as_owner(start(), work)
    if as_json:
        _print_json(found)
        return
    table = Table("Id", "Address", "Topics", "Hears", "State", "Failures in a row")
    for each in found:
        hears = f"shop {each.shop_id}" if each.shop_id else "every shop"
        table.add_row(
            str(each.endpoint_id), each.address, ", ".join(each.topics), hears, each.state, str(each.failures)
        )
    console.print(table if table.rows else "No endpoint yet. Add one: sellflow endpoints add https://… --topic TOPIC")


@endpoints.command("show")
def show(endpoint_id: Id) -> None:
    """Show one endpoint: how it fares, and how many deliveries stand where."""
    from sellflow.queue.outgoing.delivery_log import count_by_state  # noqa: PLC0415
    from sellflow.queue.outgoing.endpoints import find_endpoint  # noqa: PLC0415

    async def work(connection: SessionConnection) -> tuple[Endpoint, dict[str, int]]:
        return await find_endpoint(connection, endpoint_id), await count_by_state(connection, endpoint_id)

    endpoint, counts = as_owner(start(), work)
    table = Table.grid(padding=(0, 2))
    table.add_row("Address", endpoint.address)
    table.add_row("Description", endpoint.description or "none")
    table.add_row("Topics", ", ".join(endpoint.topics))
    table.add_row("Hears", f"shop {endpoint.shop_id}" if endpoint.shop_id else "every shop")
    paused = f" since {endpoint.paused_at:%Y-%m-%d %H:%M} UTC: {endpoint.pause_reason}" if endpoint.paused_at else ""
    table.add_row("State", endpoint.state + paused)
    failing = f" since {endpoint.failing_since:%Y-%m-%d %H:%M} UTC" if endpoint.failing_since else ""
    table.add_row("Failures in a row", f"{endpoint.failures}{failing}")
    table.add_row("Deliveries", ", ".join(f"{count} {state}" for state, count in sorted(counts.items())) or "none yet")
    console.print(table, markup=False)
    if endpoint.paused_at:
        console.print(f"Nothing is lost: sellflow endpoints resume {endpoint_id}")


@endpoints.command("rotate")
def rotate(
    endpoint_id: Id,
    overlap: Annotated[float, typer.Option(help="Hours for which the old secret signs besides.", min=0, max=720)] = 24,
) -> None:
    """Give an endpoint a new secret; the one before it signs besides for a day."""
    from sellflow.queue.outgoing.endpoints import rotate_secret  # noqa: PLC0415
    from sellflow.secrets import build_vault  # noqa: PLC0415

    settings = start()
    vault = build_vault(settings)
    secret = as_owner(settings, lambda c: rotate_secret(c, vault, endpoint_id, overlap=timedelta(hours=overlap)))
    console.print(f"The new secret, shown this once: {secret}", markup=False)
    console.print(f"Both sign for {overlap:g} hours: give the receiver the new one until then.")


@endpoints.command("pause")
def pause(
    endpoint_id: Id, reason: Annotated[str, typer.Option(help="Why, for whoever looks.")] = "paused by an operator"
) -> None:
    """Tell an endpoint nothing for a while; what it misses is kept."""
    from sellflow.queue.outgoing.endpoints import pause_endpoint  # noqa: PLC0415

    as_owner(start(), lambda c: pause_endpoint(c, endpoint_id, reason=reason))
    console.print(f"Paused. What it misses is kept: sellflow endpoints resume {endpoint_id}")


@endpoints.command("resume")
def resume(endpoint_id: Id) -> None:
    """Tell an endpoint of events again, first of those it missed."""
    from sellflow.queue.outgoing.endpoints import resume_endpoint  # noqa: PLC0415
    from sellflow.roles import build_registry  # noqa: PLC0415

    settings = start()
    missed = as_owner(settings, lambda c: resume_endpoint(c, build_registry(settings), endpoint_id))
    console.print(f"Resumed; {missed} deliveries that it missed are on their way.")


@endpoints.command("remove")
def remove(endpoint_id: Id) -> None:
    """Tell an endpoint nothing any more, and forget its secrets."""
    from sellflow.queue.outgoing.endpoints import remove_endpoint  # noqa: PLC0415

    as_owner(start(), lambda c: remove_endpoint(c, endpoint_id))
    console.print("Removed. Its delivery log stays as long as the event log.")


@endpoints.command("test")
def send_test(endpoint_id: Id) -> None:
    """Send a test event by the way that every event takes, and show what the endpoint answered."""
    from sellflow.queue.outgoing import delivery_log  # noqa: PLC0415
    from sellflow.queue.outgoing import endpoints as outgoing  # noqa: PLC0415
    from sellflow.roles import build_registry  # noqa: PLC0415

    settings = start()

    async def work(connection: SessionConnection) -> LoggedAttempt | None:
        shop_id, key = await outgoing.send_test(connection, build_registry(settings), endpoint_id)
        for _ in range(int(LONGEST_TEST / LOOK_EVERY)):
            if result := await delivery_log.test_result(connection, endpoint_id, shop_id=shop_id, key=key):
                return result
            await asyncio.sleep(LOOK_EVERY)
        return None

    result = as_owner(settings, work)
    if result is None:
        console.print(f"No worker took it within {LONGEST_TEST:g} s: is one running? It is sent as soon as one does.")
        raise typer.Exit(1)
    _show_attempts([result])
    if result.error_code:
        raise typer.Exit(1)


@endpoints.command("deliveries")
def deliveries(
    endpoint_id: Id,
    delivery: Annotated[int, typer.Option(help="The number of one delivery, to see every attempt at it.")] = 0,
    state: Annotated[str, typer.Option(help="pending, delivered, held or failed.")] = "",
    limit: Annotated[int, typer.Option(help="How many at most.", min=1, max=10_000)] = 20,
    as_json: AsJson = False,
) -> None:
    """Show the delivery log of an endpoint, newest first."""
    from sellflow.queue.outgoing.delivery_log import list_attempts, list_deliveries  # noqa: PLC0415
    from sellflow.queue.outgoing.models import DeliveryState  # noqa: PLC0415

    if state and state not in list(DeliveryState):
        raise ConfigurationError(f"--state is one of {', '.join(DeliveryState)}, not {state!r}")
    if delivery:
        attempts = as_owner(start(), lambda c: list_attempts(c, endpoint_id, delivery))
        if as_json:
            _print_json(attempts)
        else:
            _show_attempts(attempts)
        return
    chosen = DeliveryState(state) if state else None
    found = as_owner(start(), lambda c: list_deliveries(c, endpoint_id, state=chosen, limit=limit))
    if as_json:
        _print_json(found)
        return
    table = Table("Id", "Created", "Topic", "Shop", "State", "Attempts", "Last answer")
    for each in found:
        last = each.last_error or (str(each.last_status) if each.last_status else "")
        created = f"{each.created_at:%Y-%m-%d %H:%M:%S}"
        table.add_row(
            str(each.delivery_id), created, each.topic, str(each.shop_id), each.state, str(each.attempts), last
        )
    console.print(table if table.rows else "Nothing was delivered to it yet.")


@endpoints.command("replay")
def replay(
    endpoint_id: Id,
    delivery: Annotated[int, typer.Option(help="The number of one delivery, delivered or failed.")] = 0,
    since: Annotated[str, typer.Option(help="Or all that failed since then: 2026-11-24T12:00, in UTC.")] = "",
) -> None:
    """Send one delivery again, or all that failed since a time. Asking twice sends once."""
    from sellflow.queue.outgoing.endpoints import replay_deliveries  # noqa: PLC0415
    from sellflow.roles import build_registry  # noqa: PLC0415

    if bool(delivery) == bool(since):
        raise ConfigurationError("name one delivery (--delivery ID), or a time since which all failed ones are sent")
    settings = start()
    chosen: dict[str, Any] = {"delivery_id": delivery} if delivery else {"since": _time(since)}
    sent = as_owner(settings, lambda c: replay_deliveries(c, build_registry(settings), endpoint_id, **chosen))
    console.print(f"{sent} deliveries are on their way again." if sent else "Nothing to send again.")


def _time(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(f"--since is a time such as 2026-11-24T12:00, not {text!r}") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _show_attempts(attempts: Sequence[LoggedAttempt]) -> None:
    table = Table("When", "Took", "Status", "Result", "Answer")
    for each in attempts:
        status = str(each.status) if each.status else "none"
        result = each.error_message or "delivered"
        when = f"{each.attempted_at:%Y-%m-%d %H:%M:%S}"
        table.add_row(when, f"{each.duration_ms} ms", status, result, each.excerpt)
    console.print(table if table.rows else "No attempt at it yet.", markup=False)


def _print_json(rows: Sequence[Any]) -> None:
    print(json.dumps([asdict(row) for row in rows], default=str, indent=2))  # noqa: T201 - for a program to read
