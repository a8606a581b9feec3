"""`sellflow migrate|backup|restore`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from sellflow.cli.opening import start
from sellflow.postgres.opening import open_database, prepare

console = Console(highlight=False, soft_wrap=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("migrate")(migrate)
    app.command("backup")(backup)
    app.command("restore")(restore)


def migrate() -> None:
    """Bring the database to this version: schema, logins' passwords, keys, queues, partitions."""
    from sellflow.postgres.revisions import newest_revision  # noqa: PLC0415
    from sellflow.roles import prepare_above  # noqa: PLC0415

    settings = start()
    with open_database(settings) as database:
        migrated = asyncio.run(prepare(database, prepare_above(database.settings)))
    state = "brought to" if migrated else "already at"
    console.print(f"The database is {state} [bold]{newest_revision()}[/].")


def backup(file: Annotated[Path, typer.Argument(help="The file to write; it must not exist yet.")]) -> None:
    """Write the whole database to one file, while everything runs."""
    from sellflow.postgres.backup import write_backup  # noqa: PLC0415

    settings = start()
    with open_database(settings) as database, console.status("Writing the backup"):
        size = write_backup(database, file)
    console.print(f"Wrote {file} ({size:,} bytes). Restore it into an empty database with: sellflow restore {file}")
    if settings.local_master_keys.exists():
        console.print(f"Its secrets open with {settings.local_master_keys} alone: keep a copy of that elsewhere.")


def restore(file: Annotated[Path, typer.Argument(help="A file that `sellflow backup` wrote.")]) -> None:
    """Read a backup into an empty database. One that holds anything is left alone."""
    from sellflow.postgres.backup import read_backup  # noqa: PLC0415
    from sellflow.roles import prepare_above  # noqa: PLC0415
    from sellflow.secrets.errors import MasterKeyMissingError  # noqa: PLC0415

    settings = start()
    with open_database(settings) as database:
        with console.status("Reading the backup"):
            read_backup(database, file)
        try:
            asyncio.run(prepare(database, prepare_above(database.settings)))
        except MasterKeyMissingError as error:
            raise MasterKeyMissingError(f"{file} was read. {error}. Then run `sellflow migrate`") from error
    console.print(f"Restored {file}.")
