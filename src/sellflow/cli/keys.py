"""`sellflow keys …`: keys of other programs, shown once when they are made."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from sellflow.cli.opening import as_owner, start

if TYPE_CHECKING:
    from sellflow.edge.service_keys import NewKey
    from sellflow.postgres.database import SessionConnection

console = Console(highlight=False, soft_wrap=True)

keys = typer.Typer(help="Service keys: what other programs call the API with.", no_args_is_help=True)

KeyId = Annotated[str, typer.Argument(metavar="ID", help="The key's id: what stands between sfk_ and the next _.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(keys, name="keys")


@keys.command("add")
def add(
    name: Annotated[str, typer.Argument(help="Whose key it is, for people.")],
    scope: Annotated[list[str], typer.Option(help="What it may do, such as deadletters:read; may be repeated.")],
    shop: Annotated[str, typer.Option(help="The one shop it is for; the whole installation without.")] = "",
    days: Annotated[int, typer.Option(help="Days for which it is valid; without end when 0.", min=0, max=3650)] = 0,
) -> None:
    """Make a key and show it, this once."""
    from sellflow.edge.service_keys import add_key  # noqa: PLC0415
    from sellflow.shops.store import find_shop  # noqa: PLC0415

    async def work(connection: SessionConnection) -> NewKey:
        shop_id = (await find_shop(connection, shop)).shop_id if shop else None
        valid_for = timedelta(days=days) if days else None
        return await add_key(connection, name=name, scopes=scope, shop_id=shop_id, valid_for=valid_for)

    new = as_owner(start(), work)
    _show_new(new)


@keys.command("list")
def list_all(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for a program to read.")] = False,
) -> None:
    """Show the keys, never their secrets."""
    from sellflow.edge.service_keys import list_keys  # noqa: PLC0415

    found, now = as_owner(start(), list_keys), datetime.now(UTC)
    if as_json:
        rows = [asdict(each) | {"state": each.state(now)} for each in found]
        print(json.dumps(rows, default=str, indent=2))  # noqa: T201 - for a program to read
        return
    table = Table("Id", "Name", "Scopes", "For", "State", "Ends", "Last used (UTC)")
    for each in found:
        of = f"shop {each.shop_id}" if each.shop_id else "the installation"
        table.add_row(
            each.key_id, each.name, ", ".join(each.scopes), of, each.state(now), _time(each.expires_at),
            _time(each.last_used_at),
        )  # fmt: skip
    console.print(table if table.rows else "No key yet. Make one: sellflow keys add NAME --scope deadletters:read")


@keys.command("rotate")
def rotate(
    key_id: KeyId,
    overlap: Annotated[float, typer.Option(help="Hours for which the old key stays valid.", min=0, max=720)] = 24,
) -> None:
    """Make a key that takes another's place; the old one stays valid for a day."""
    from sellflow.edge.service_keys import rotate_key  # noqa: PLC0415

    new = as_owner(start(), lambda c: rotate_key(c, key_id, overlap=timedelta(hours=overlap)))
    _show_new(new)
    console.print(f"The old one, {key_id}, is valid for {overlap:g} more hours.")


@keys.command("revoke")
def revoke(key_id: KeyId) -> None:
    """End a key at once, everywhere."""
    from sellflow.edge.service_keys import revoke_key  # noqa: PLC0415

    as_owner(start(), lambda c: revoke_key(c, key_id))
    console.print(f"Revoked. Nothing is answered to {key_id} any more.")


def _show_new(new: NewKey) -> None:
    console.print(f"Key {new.key.key_id} ({new.key.name}) may {', '.join(new.key.scopes)}.", markup=False)
    console.print(f"It is shown this once: {new.text}", markup=False)


def _time(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M}" if moment else ""
