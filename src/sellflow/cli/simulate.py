"""`sellflow simulate orders`: let the simulated store sell."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from sellflow.cli.opening import start
from sellflow.errors import SellflowError

console = Console(highlight=False)
Share = Annotated[float, typer.Option(min=0, max=1, help="Share of webhooks, 0 to 1.")]

simulate = typer.Typer(help="Let the simulated store sell; it must be running (`sellflow up`).", no_args_is_help=True)


class RunFailedError(SellflowError):
    """The simulator could not deliver everything."""

    code = "simulate.undelivered"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(simulate, name="simulate")


@simulate.callback()
def _group() -> None:
    """Keep `orders` a subcommand, whatever joins it later."""


@simulate.command("orders")
def orders(
    *,
    count: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many orders.")] = 10,
    rate: Annotated[float, typer.Option(min=0, help="Orders a second; 0 is as fast as they are taken.")] = 0.0,
    shop: Annotated[str, typer.Option(help="The shop's domain; the demo shop when left out.")] = "",
    seed: Annotated[int | None, typer.Option(help="Play the same orders again.")] = None,
    duplicate: Share = 0.0,
    lose: Share = 0.0,
    delay: Share = 0.0,
    reorder: Share = 0.0,
) -> None:
    """Place orders in a simulated store, with the refunds, edits and cancellations that follow some of them."""
    from sellflow.cli.store import register_demo_store  # noqa: PLC0415
    from sellflow.demo_shop import DEMO_DOMAIN  # noqa: PLC0415
    from sellflow.simulator.schemas import Faults, RunPlan, RunStatus  # noqa: PLC0415

    settings = start()
    faults = Faults(duplicate=duplicate, lose=lose, delay=delay, reorder=reorder)
    plan = RunPlan(count=count, rate=rate, seed=seed, faults=faults)

    async def play() -> RunStatus:
        from sellflow.simulator import client  # noqa: PLC0415

        if not shop:
            await register_demo_store(settings)
        with _progress() as progress:
            placed = progress.add_task("orders placed", total=count)
            sent = progress.add_task("webhooks sent", total=None)

            def show(status: RunStatus) -> None:
                progress.update(placed, completed=status.orders)
                progress.update(sent, completed=status.webhooks.acknowledged, total=status.webhooks.meant)

            return await client.play_run(settings.simulator_url, shop or DEMO_DOMAIN, plan, show)

    status = asyncio.run(play())
    counts = status.webhooks
    table = Table(show_header=False, title=f"{status.shop}, {status.seconds:.1f} s", title_justify="left")
    table.add_row("Orders placed", f"{status.orders:,}")
    table.add_row("Refunds", f"{status.refunds:,}")
    table.add_row("Webhooks, and those acknowledged", f"{counts.meant:,}, {counts.acknowledged:,}")
    table.add_row("Sent twice, lost on purpose", f"{counts.duplicates:,}, {counts.lost:,}")
    table.add_row("Given up after the last retry", f"{counts.failed:,}")
    console.print(table)
    if counts.failed:
        raise RunFailedError(f"{counts.failed} webhooks were refused to the last retry; the web role's log says why")


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True)
