"""`sellflow queues`: what the queues hold, and stopping work on one for a while."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from sellflow.cli.opening import as_owner, start
from sellflow.errors import ConfigurationError

if TYPE_CHECKING:
    from sellflow.postgres.database import SessionConnection
    from sellflow.queue.figures import QueueFigures
    from sellflow.queue.pauses import Pause

console = Console(highlight=False)
queues = typer.Typer(help="What the queues hold; pausing and resuming them.")

REFRESH = 1.0
#: Terminals narrower than this get the columns that matter most.
NARROW = 100
#: Named instead of a queue: all of them.
ALL = "all"

QueueName = Annotated[str, typer.Argument(metavar="QUEUE", help=f"The queue, or {ALL}.")]
ShopDomain = Annotated[str, typer.Option("--shop", help="This shop's messages alone, by its domain.")]


@dataclass(frozen=True)
class Look:
    """What the queues were like at one moment."""

    figures: list[QueueFigures]
    per_second: dict[str, float]
    pauses: list[Pause]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(queues, name="queues")


@queues.callback(invoke_without_command=True)
def show(
    context: typer.Context,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh every second, until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Show what each queue holds, how fast it empties, and what is paused."""
    if context.invoked_subcommand:
        return
    if watch and as_json:
        raise ConfigurationError("--watch is for people: leave it out with --json")
    settings = start()
    if watch:
        try:
            as_owner(settings, _watch)
        except KeyboardInterrupt:
            return
    look = as_owner(settings, _look)
    if as_json:
        print(json.dumps(_facts(look), default=str, indent=2))  # noqa: T201 - for a machine
    else:
        _print(look)


@queues.command("pause")
def pause_command(
    queue: QueueName,
    reason: Annotated[str, typer.Option(help="Why: shown to everybody who looks.")],
    shop: ShopDomain = "",
) -> None:
    """Let nothing more be claimed from a queue, of a shop, or of a shop in a queue. What was claimed is finished."""
    from sellflow.queue.pauses import pause  # noqa: PLC0415

    async def work(connection: SessionConnection) -> None:
        name, shop_id = await _meant(connection, queue, shop)
        await pause(connection, queue=name, shop_id=shop_id, reason=reason)

    as_owner(start(), work)
    console.print(
        f"Paused: {_scope(queue, shop)}. Messages are kept; go on with: sellflow queues resume {queue}", end=""
    )
    console.print(f" --shop {shop}" if shop else "")


@queues.command("resume")
def resume_command(queue: QueueName, shop: ShopDomain = "") -> None:
    """Take back a pause, named as it was made."""
    from sellflow.queue.pauses import resume  # noqa: PLC0415

    async def work(connection: SessionConnection) -> bool:
        name, shop_id = await _meant(connection, queue, shop)
        return await resume(connection, queue=name, shop_id=shop_id)

    was_paused = as_owner(start(), work)
    console.print(f"{'Resumed' if was_paused else 'It was not paused'}: {_scope(queue, shop)}.")


async def _meant(connection: SessionConnection, queue: str, shop: str) -> tuple[str | None, int | None]:
    """Return the queue and shop as pauses name them: None is all."""
    from sellflow.shops.store import find_shop  # noqa: PLC0415

    shop_id = (await find_shop(connection, shop)).shop_id if shop else None
    return None if queue == ALL else queue, shop_id


def _scope(queue: str | None, shop: str | None) -> str:
    where = "all queues" if queue in (None, ALL) else f"the queue {queue}"
    return f"{where}, {shop} alone" if shop else where


async def _look(connection: SessionConnection) -> Look:
    from sellflow.queue.figures import handled_per_second, read_figures  # noqa: PLC0415
    from sellflow.queue.pauses import list_pauses  # noqa: PLC0415

    return Look(await read_figures(connection), await handled_per_second(connection), await list_pauses(connection))


async def _watch(connection: SessionConnection) -> None:
    with Live(console=console, auto_refresh=False) as live:
        while True:
            live.update(_table(await _look(connection)), refresh=True)
            await asyncio.sleep(REFRESH)


def _facts(look: Look) -> dict[str, object]:
    return {
        "queues": [
            asdict(each) | {"handled_per_second": look.per_second.get(each.queue, 0.0)} for each in look.figures
        ],
        "pauses": [asdict(each) for each in look.pauses],
    }


def _print(look: Look) -> None:
    if not look.figures:
        console.print("There is no queue yet. Make them: sellflow migrate")
        return
    console.print(_table(look))
    for each in look.pauses:
        shop = each.shop_domain or (str(each.shop_id) if each.shop_id is not None else None)
        since = f"{each.paused_at:%Y-%m-%d %H:%M}"
        console.print(Text(f"Paused since {since} UTC: {_scope(each.queue, shop)}: {each.reason}"), soft_wrap=True)


def _table(look: Look) -> Table:
    wide = console.width >= NARROW
    table = Table(expand=False)
    table.add_column("Queue", overflow="fold")
    columns = ["Waiting", "In flight", "Oldest", "Handled/s", "Retries", "Followers", "Dead"] if wide else _NARROW
    for column in columns:
        table.add_column(column, justify="right")
    table.add_column("Paused" if wide else "")
    for each in look.figures:
        cells = _cells(each, look.per_second.get(each.queue, 0.0))
        table.add_row(each.queue, *(cells[column] for column in columns), _paused(each, wide))
    return table


_NARROW = ["Waiting", "Oldest", "Dead"]


def _cells(figures: QueueFigures, per_second: float) -> dict[str, str | Text]:
    return {
        "Waiting": f"{figures.waiting:,}",
        "In flight": f"{figures.in_flight:,}",
        "Oldest": age(figures.oldest_seconds) if figures.waiting else "",
        "Handled/s": f"{per_second:,.1f}",
        "Retries": f"{figures.parked:,}",
        "Followers": f"{figures.followers:,}",
        "Dead": Text(f"{figures.dead:,}", style="bold red" if figures.dead else ""),
    }


def _paused(figures: QueueFigures, wide: bool) -> Text:
    if figures.paused:
        return Text("paused" if wide else "‖", style="bold yellow")
    if figures.paused_shops:
        return Text(f"{figures.paused_shops} shop(s)" if wide else "(‖)", style="yellow")
    return Text("")


def age(seconds: float) -> str:
    """Return an age in its largest unit: 42 s, 7 min, 3 h, 2 d."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
