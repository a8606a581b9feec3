"""`sellflow secrets …`: the master keys under which secrets are sealed."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from sellflow.cli.opening import as_owner, start

if TYPE_CHECKING:
    from sellflow.postgres.database import SessionConnection
    from sellflow.secrets.rotation import Rotated
    from sellflow.secrets.status import Status

console = Console(highlight=False, soft_wrap=True)

secrets = typer.Typer(help="The master keys under which secrets are sealed. None is ever shown.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for a program to read.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(secrets, name="secrets")


@secrets.command("status")
def status(as_json: AsJson = False) -> None:
    """Show which master keys there are, what they wrap, and whether this process has access to them."""
    from sellflow.secrets.status import look  # noqa: PLC0415

    settings = start()
    found = as_owner(settings, lambda c: look(c, settings))
    if as_json:
        print(json.dumps(asdict(found), default=str, indent=2))  # noqa: T201 - alone on standard output
    else:
        _show(found)
    if found.unsealed or not all(key.is_accessible for key in found.master_keys):
        raise typer.Exit(1)


def _show(found: Status) -> None:
    table = Table("Master key", "Held by", "Made", "Wraps", "Access")
    for key in found.master_keys:
        name = f"{key.use.master_key_id} (current)" if key.use.is_current else key.use.master_key_id
        holder = key.use.service_key_id or found.file if key.use.provider != "local" else found.file
        wraps = f"{key.use.data_keys} data keys"
        table.add_row(name, holder, f"{key.use.created_at:%Y-%m-%d %H:%M}", wraps, key.fault or "yes")
    console.print(table, markup=False)
    if found.unsealed:
        console.print(
            f"{found.unsealed} secrets are still stored in the clear: run `sellflow migrate`, which seals them."
        )
    for key in found.master_keys:
        if not key.use.is_current and not key.use.data_keys:
            console.print(
                f"Nothing needs {key.use.master_key_id} any more: sellflow secrets drop {key.use.master_key_id}"
            )


@secrets.command("rotate")
def rotate(as_json: AsJson = False) -> None:
    """Make a new master key and wrap every data key by it, while everything runs. Run it again if it is interrupted.

    It also moves keys to another provider: change SELLFLOW_MASTER_KEY_PROVIDER for every process first.
    """
    from sellflow.secrets import rotation  # noqa: PLC0415

    settings = start()
    columns = TextColumn("Data keys"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("", total=None)

        async def work(connection: SessionConnection) -> Rotated:
            return await rotation.rotate(
                connection, settings, lambda done, total: shown.update(task, completed=done, total=total)
            )

        rotated = as_owner(settings, work)
    if as_json:
        summary = {
            "master_key_id": rotated.current.master_key_id,
            "provider": rotated.current.provider,
            "is_new": rotated.is_new,
            "rewrapped": rotated.rewrapped,
            "damaged": [str(each) for each in rotated.damaged],
            "droppable": rotated.droppable,
        }
        print(json.dumps(summary, indent=2))  # noqa: T201 - alone on standard output, for a machine
    else:
        _tell(rotated, str(settings.local_master_keys))
    if rotated.damaged:
        raise typer.Exit(1)


def _tell(rotated: Rotated, file: str) -> None:
    verb = "was made" if rotated.is_new else "had been made by a rotation that was interrupted"
    console.print(
        f"The master key [bold]{rotated.current}[/] {verb}; {rotated.rewrapped} data keys were wrapped by it."
    )
    if rotated.current.provider == "local":
        console.print(f"Copy {file} to where its copy is kept, and to every machine that does not share it.")
    for each in rotated.damaged:
        console.print(f"[red]The data key {each} does not open and was left as it is[/]: bring its row back.")
    for former in rotated.droppable:
        console.print(f"Nothing needs {former} any more: sellflow secrets drop {former}")


@secrets.command("drop")
def drop(
    master_key_id: Annotated[str, typer.Argument(metavar="KEY", help="Its id in `secrets status`.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Forget a master key that wraps nothing any more, for good. Backups of before the rotation need it."""
    from sellflow.secrets import rotation  # noqa: PLC0415

    settings = start()
    if not yes:
        typer.confirm(f"Backups made before the rotation open with {master_key_id} alone. Forget it?", abort=True)
    as_owner(settings, lambda c: rotation.drop(c, settings, master_key_id))
    console.print(f"{master_key_id} is forgotten.")
