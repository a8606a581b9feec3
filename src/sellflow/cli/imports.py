"""`sellflow import`: a shop's customers and orders from before it installed the app."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from sellflow.cli.opening import as_owner, ready_database, start
from sellflow.errors import ConfigurationError

if TYPE_CHECKING:
    from sellflow.postgres.database import Database, SessionConnection
    from sellflow.shops.imports.store import Import, Kind

REFRESH = 1.0
WORDS = {
    "waiting": "waits",
    "exporting": "Shopify writes its file",
    "reading": "is read",
    "done": "done",
    "failed": "failed",
    "cancelled": "cancelled",
}

console = Console(highlight=False, soft_wrap=True)
imports = typer.Typer(help="What a shop had before it installed the app: its customers and its orders.")

Domain = Annotated[str, typer.Argument(metavar="DOMAIN", help="The shop's domain.")]
Moment = Annotated[datetime | None, typer.Option(metavar="MOMENT", help="Leave out what was made before (UTC).")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(imports, name="import")


@imports.command("start")
def begin(
    domain: Domain,
    orders: Annotated[bool, typer.Option("--orders", help="The order history, instead of the customers.")] = False,
    since: Moment = None,
    earn_from: Annotated[
        datetime | None,
        typer.Option(
            metavar="MOMENT", help="Orders placed from then on (UTC) bring points; by default none of before."
        ),
    ] = None,
) -> None:
    """Begin an import; workers and a scheduler do it. A second of one kind is the first while that goes on."""
    if earn_from and not orders:
        raise ConfigurationError("--earn-from says which orders bring points: it goes with --orders")

    async def work(connection: SessionConnection) -> bool:
        from sellflow.loyalty.history import begin_import  # noqa: PLC0415
        from sellflow.shops.store import find_shop  # noqa: PLC0415

        shop = await find_shop(connection, domain)
        async with connection.transaction():
            kind: Kind = "orders" if orders else "customers"
            return await begin_import(connection, shop.shop_id, kind, since=since, earn_from=earn_from)

    begun = as_owner(start(), work)
    console.print("Begun." if begun else "It is under way already.")
    console.print(f"See how far it is with: sellflow import status {domain} --watch")


@imports.command("status")
def status(
    domain: Domain,
    watch: Annotated[bool, typer.Option("--watch", help="Look again every second, until all have ended.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object an import, for machines.")] = False,
) -> None:
    """Show how far imports have come."""
    with ready_database(start()) as database:
        asyncio.run(_show(database, domain, watch=watch, as_json=as_json))


async def _show(database: Database, domain: str, *, watch: bool, as_json: bool) -> None:
    from sellflow.postgres.database import Login  # noqa: PLC0415
    from sellflow.shops.imports.store import list_imports  # noqa: PLC0415
    from sellflow.shops.store import find_shop  # noqa: PLC0415

    connection = await database.connect(Login.OWNER, purpose="command")
    try:
        shop = await find_shop(connection, domain)
        found = await list_imports(connection, shop.shop_id)
        if as_json:
            for each in found:
                print(json.dumps(asdict(each), default=str))  # noqa: T201 - alone on standard output, for a machine
            return
        if not found:
            console.print(f"Nothing has been imported of {domain}. Begin with: sellflow import start {domain}")
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[said]}"),
        )
        with Progress(*columns, console=console) as progress:
            tasks = {each.import_id: _add(progress, each) for each in reversed(found)}
            while watch and any(each.finished_at is None for each in found):
                await asyncio.sleep(REFRESH)
                found = await list_imports(connection, shop.shop_id)
                for each in found:
                    _update(progress, tasks.setdefault(each.import_id, _add(progress, each)), each)
    finally:
        await connection.close()


def _add(progress: Progress, of: Import) -> int:
    task = progress.add_task(f"{of.kind} of {of.asked_at:%Y-%m-%d %H:%M}", total=of.expected, said="")
    _update(progress, task, of)
    return int(task)


def _update(progress: Progress, task: int, of: Import) -> None:
    total = of.stored if of.state == "done" else of.expected
    said = f"{WORDS[of.state]}: {of.error}" if of.error else WORDS[of.state]
    progress.update(task, completed=of.stored, total=total, said=said)  # type: ignore[arg-type]


@imports.command("cancel")
def cancel(domain: Domain) -> None:
    """Stop what is being imported; what is stored stays."""

    async def work(connection: SessionConnection) -> int:
        from sellflow.shops.imports.store import end, list_imports  # noqa: PLC0415
        from sellflow.shops.store import find_shop  # noqa: PLC0415

        shop = await find_shop(connection, domain)
        going_on = [each for each in await list_imports(connection, shop.shop_id) if each.finished_at is None]
        for each in going_on:
            await end(connection, shop.shop_id, each.import_id, state="cancelled")
        return len(going_on)

    console.print(f"{as_owner(start(), work)} imports cancelled.")
