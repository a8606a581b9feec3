"""`sellflow reconcile`: whether Shopify knows more than its webhooks told, and what was repaired."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from sellflow.cli.opening import as_owner, ready_database, start
from sellflow.errors import SellflowError

if TYPE_CHECKING:
    from sellflow.postgres.database import Database
    from sellflow.settings import Settings
    from sellflow.shops.models import Shop
    from sellflow.shops.reconciliation.run import Tally
    from sellflow.shops.reconciliation.store import Reconciled

#: Terminals narrower than this get the columns that matter most.
NARROW = 110
#: Seconds that one run from here may take; what is left is begun again at once.
BUDGET = 600.0

console = Console(highlight=False, soft_wrap=True)
reconcile = typer.Typer(help="What webhooks did not tell: looked for in Shopify, and fed where webhooks go.")

Domain = Annotated[str, typer.Argument(metavar="DOMAIN", help="The shop's domain.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]


class NothingToReconcileError(SellflowError):
    """The shop is not installed."""

    code = "reconciliation.not_installed"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(reconcile, name="reconcile")


@reconcile.command("list")
def list_shops(as_json: AsJson = False) -> None:
    """Show up to when each shop is complete, and how much had to be repaired."""
    from sellflow.shops.reconciliation.store import list_reconciled  # noqa: PLC0415

    rows = as_owner(start(), list_reconciled)
    if as_json:
        for row in rows:
            print(json.dumps(asdict(row), default=str))  # noqa: T201 - alone on standard output, for a machine
    elif not rows:
        console.print("No shop has been reconciled yet: a scheduler begins with each that is installed.")
    else:
        console.print(_table(rows, wide=console.width >= NARROW))


def _table(rows: list[Reconciled], *, wide: bool) -> Table:
    table = Table("Shop", "Orders complete until (UTC)", "Repaired", "Last run")
    if wide:
        table.add_column("Looked at", justify="right")
        table.add_column("Next run (UTC)")
    for row in rows:
        last = f"[red]{row.error}[/]" if row.error else row.detail or "not yet"
        cells = [row.domain, f"{row.orders_until:%Y-%m-%d %H:%M:%S}", str(row.repaired), last]
        table.add_row(*cells, *([str(row.examined), f"{row.next_run_at:%Y-%m-%d %H:%M:%S}"] if wide else []))
    return table


@reconcile.command("run")
def run_now(
    domain: Domain,
    since: Annotated[
        datetime | None, typer.Option(help="Look again at all that changed from then on (UTC).", metavar="MOMENT")
    ] = None,
    settle: Annotated[
        float | None, typer.Option(help="Seconds for which a change is left alone.", min=0.0, metavar="SECONDS")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Reconcile a shop now, here; safe while workers do the same."""
    settings = start() if settle is None else start(reconciliation_settle=settle)
    with ready_database(settings) as database:
        tally = asyncio.run(_run(database, settings, domain, since.replace(tzinfo=UTC) if since else None))
    if as_json:
        print(json.dumps(asdict(tally)))  # noqa: T201 - alone on standard output, for a machine
    else:
        console.print(f"{domain}: {tally.sentence()}")


async def _run(database: Database, settings: Settings, domain: str, since: datetime | None) -> Tally:
    from sellflow.postgres.database import Login, close_pool  # noqa: PLC0415
    from sellflow.postgres.transactions import of_worker  # noqa: PLC0415
    from sellflow.shopify.admin.opening import AdminClients  # noqa: PLC0415
    from sellflow.shops.reconciliation.reading import Reader  # noqa: PLC0415
    from sellflow.shops.reconciliation.run import Reconciliation, Tally  # noqa: PLC0415

    shop = await _begin(database, domain, since)
    pool = await database.pool(Login.WORKER, purpose="command", size=2)
    clients, whole = AdminClients(settings), Tally()
    try:
        while True:
            run = Reconciliation(
                of_worker(pool),
                Reader(clients.of(pool)),
                settle=settings.reconciliation_settle,
                budget=BUDGET,
            )
            tally = await run.run(shop.shop_id)
            if tally is None:
                raise NothingToReconcileError(f"{domain} has removed the app: there is nothing to reconcile")
            whole = whole.and_then(tally)
            if tally.is_complete:
                return whole
            console.print(whole.sentence())
    finally:
        await clients.close()
        await close_pool(pool)


async def _begin(database: Database, domain: str, since: datetime | None) -> Shop:
    from sellflow.postgres.database import Login  # noqa: PLC0415
    from sellflow.shops.reconciliation.store import make_due  # noqa: PLC0415
    from sellflow.shops.store import find_shop  # noqa: PLC0415

    owner = await database.connect(Login.OWNER, purpose="command")
    try:
        shop = await find_shop(owner, domain)
        await make_due(owner, shop.shop_id, since=since)
        return shop
    finally:
        await owner.close()
