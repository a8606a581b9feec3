"""One demo from its start to its table: against what runs already, or a system of its own that it takes down again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from sellflow.cli.demo.check import Verdict
from sellflow.cli.demo.play import Played, play
from sellflow.cli.opening import start
from sellflow.cli.processes import StopRequestedError, Supervisor, stop_on_signals
from sellflow.cli.up import start_everything
from sellflow.errors import ConfigurationError
from sellflow.postgres.database import Database
from sellflow.postgres.opening import open_database
from sellflow.settings import Settings

DIFFERENCES_SHOWN = 10


def run_demo(*, orders: int, kills: int, as_json: bool) -> None:
    """Play, show what came of it, and exit with 1 when anything was lost or doubled."""
    settings = start()
    if settings.environment == "production":
        raise ConfigurationError("the demo plays with a simulated store: SELLFLOW_ENVIRONMENT=production has none")
    console = Console(stderr=as_json, highlight=False)
    stop_on_signals()
    try:
        with _running_system(settings, console) as database:
            played = _play(database, orders, kills, console)
    except StopRequestedError:
        console.print("Stopped.")
        raise typer.Exit(130) from None
    if as_json:
        print(json.dumps(report(played)))  # noqa: T201 - alone on standard output, for a program to read
    else:
        _show(played, console)
    if played.verdict.lost or played.verdict.doubled:
        raise typer.Exit(1)


def report(played: Played) -> dict[str, float]:
    """Return the figures that `--json` prints."""
    verdict = played.verdict
    return {
        "orders_sent": played.status.orders,
        "orders_processed": verdict.orders_processed,
        "duplicates_ignored": verdict.duplicates_ignored,
        "points_expected": verdict.points_expected,
        "points_awarded": verdict.points_awarded,
        "lost": verdict.lost,
        "doubled": verdict.doubled,
        "kills": played.kills,
        "seconds": round(played.seconds, 2),
    }


@contextmanager
def _running_system(settings: Settings, console: Console) -> Iterator[Database]:
    """Yield the database of what runs already, or of a system started for the demo."""
    with ExitStack() as stack:
        if _answers(f"{settings.web_url}/readyz") and _answers(f"{settings.simulator_url}/healthz"):
            console.print(f"Playing against what runs at {settings.web_url}")
            yield stack.enter_context(open_database(settings))
        else:
            console.print("Nothing runs yet: starting Sellflow for the demo")
            yield start_everything(settings, Supervisor(), stack, console)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2, trust_env=False).is_success
    except httpx.TransportError:
        return False


def _play(database: Database, orders: int, kills: int, console: Console) -> Played:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        tasks: dict[str, TaskID] = {}

        def show(name: str, done: int, total: int) -> None:
            task = tasks.setdefault(name, TaskID(-1))
            if task == -1:
                task = tasks[name] = progress.add_task(name, total=total)
            progress.update(task, completed=done, total=total)

        return asyncio.run(play(database, orders=orders, kills=kills, on_progress=show))


def _show(played: Played, console: Console) -> None:
    status, verdict = played.status, played.verdict
    table = Table(
        title=f"Demo: {status.orders} orders in {played.seconds:.1f} s", show_header=False, title_justify="left"
    )
    table.add_row("Orders placed, and recorded", f"{status.orders:,}, {verdict.orders_processed:,}")
    table.add_row("Refunds among them", f"{status.refunds:,}")
    table.add_row("Webhooks, and requests it took", f"{status.webhooks.meant:,}, {status.webhooks.attempts:,}")
    table.add_row("Duplicates answered and ignored", f"{verdict.duplicates_ignored:,}")
    table.add_row("Workers killed while holding claims", f"{played.kills} (they held {played.claims_held} messages)")
    table.add_row("Customers asked by the mobile API", f"{played.customers_asked}, all as in the ledger")
    table.add_row("Points expected", f"{verdict.points_expected:,}")
    table.add_row("Points awarded", f"{verdict.points_awarded:,}")
    table.add_row("Lost", _judged(verdict.lost))
    table.add_row("Doubled", _judged(verdict.doubled))
    console.print(table)
    _show_differences(verdict, console)


def _judged(number: int) -> str:
    return f"[bold red]{number}[/]" if number else "[bold green]0[/]"


def _show_differences(verdict: Verdict, console: Console) -> None:
    for difference in verdict.differences[:DIFFERENCES_SHOWN]:
        order = difference.order
        console.print(
            f"[red]{order.name}[/] should have {difference.expected} points and has {difference.awarded}: "
            f"sellflow explain order {order.order_id}"
        )
