"""`sellflow shops settings …`: what a shop set, as its merchant sees it."""

from __future__ import annotations

import getpass
import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from sellflow.cli.opening import as_owner, start
from sellflow.errors import ConfigurationError

if TYPE_CHECKING:
    from sellflow.postgres.database import SessionConnection
    from sellflow.shops.settings import VersionedSettings

console = Console(highlight=False, soft_wrap=True)

settings = typer.Typer(help="A shop's settings.", no_args_is_help=True)

Domain = Annotated[str, typer.Argument(help="The shop's domain, such as name.myshopify.com.")]


def register(shops: typer.Typer) -> None:
    """Add the commands below `shops`."""
    shops.add_typer(settings, name="settings")


@settings.command("get")
def get(
    domain: Domain, as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for a program to read.")] = False
) -> None:
    """Show a shop's settings."""
    from sellflow.shops.settings import read_settings  # noqa: PLC0415
    from sellflow.shops.store import find_shop  # noqa: PLC0415

    async def work(connection: SessionConnection) -> VersionedSettings:
        return await read_settings(connection, (await find_shop(connection, domain)).shop_id)

    _show(as_owner(start(), work), as_json=as_json)


@settings.command("set")
def set_some(
    domain: Domain,
    values: Annotated[list[str], typer.Argument(metavar="NAME=VALUE", help="Without a value: back to its default.")],
) -> None:
    """Change some of a shop's settings."""
    from sellflow.shops.settings import change_settings  # noqa: PLC0415
    from sellflow.shops.store import find_shop  # noqa: PLC0415

    changes = dict(_pair(each) for each in values)

    async def work(connection: SessionConnection) -> VersionedSettings:
        shop = await find_shop(connection, domain)
        async with connection.transaction():
            return await change_settings(
                connection, shop.shop_id, changes, by=f"operator:{getpass.getuser()}", version=None
            )

    _show(as_owner(start(), work), as_json=False)


def _pair(text: str) -> tuple[str, str | None]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigurationError(f"a setting is changed as NAME=VALUE, not {text!r}")
    return name, value or None


def _show(found: VersionedSettings, *, as_json: bool) -> None:
    facts = found.settings.model_dump(mode="json")
    if as_json:
        print(json.dumps({"version": found.version, "settings": facts}, indent=2))  # noqa: T201 - for a program to read
        return
    table = Table("Setting", "Value")
    for name, value in facts.items():
        table.add_row(name, "" if value is None else str(value))
    console.print(table, markup=False)
    console.print(f"Version {found.version}.")
