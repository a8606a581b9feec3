"""`sellflow shopify calls`: the changes that were asked of Shopify, and what became of them."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from sellflow.cli.opening import as_owner, start
from sellflow.cli.shopify import console, shopify
from sellflow.errors import ConfigurationError

if TYPE_CHECKING:
    from sellflow.postgres.database import SessionConnection
    from sellflow.shopify.admin.stored_store import ListedCall

_STYLES = {"succeeded": "green", "failed": "red", "unknown": "bold red", "ambiguous": "yellow"}


def register(_app: typer.Typer) -> None:
    """Add the command to the others of its family."""
    shopify.command("calls")(calls)


def calls(
    shop: Annotated[str, typer.Option(help="The domain of one shop; all, when left out.")] = "",
    state: Annotated[str, typer.Option(help="stored, sent, ambiguous, succeeded, failed or unknown.")] = "",
    most: Annotated[int, typer.Option(min=1, max=10_000, help="How many, the newest first.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a call, for machines.")] = False,
) -> None:
    """Show the changes asked of Shopify. One that ended unknown has to be looked up in Shopify's admin."""
    from sellflow.shopify.admin.stored_rules import CallState  # noqa: PLC0415

    if state and state not in set(CallState):
        raise ConfigurationError(f"--state: there is no {state!r} (known: {', '.join(CallState)})")
    found = as_owner(start(), lambda connection: _find(connection, shop, state, most))
    if as_json:
        for each in found:
            print(json.dumps(asdict(each), default=str))  # noqa: T201 - alone on standard output, for a machine
    elif not found:
        console.print("No change was asked of Shopify yet, or none like this.")
    else:
        console.print(_table(found))


async def _find(connection: SessionConnection, shop: str, state: str, most: int) -> list[ListedCall]:
    from sellflow.shopify.admin.stored_store import list_calls  # noqa: PLC0415
    from sellflow.shops.store import find_shop  # noqa: PLC0415

    shop_id = (await find_shop(connection, shop)).shop_id if shop else None
    return await list_calls(connection, shop_id=shop_id, state=state or None, most=most)


def _table(found: list[ListedCall]) -> Table:
    table = Table()
    for heading in ("Asked", "Shop", "What for", "Call", "State", "Sent", "Why"):
        table.add_column(heading, overflow="fold")
    for each in found:
        table.add_row(
            f"{each.created_at:%Y-%m-%d %H:%M:%S}",
            each.shop_domain,
            each.purpose,
            each.document,
            Text(each.state, style=_STYLES.get(each.state, "")),
            str(each.attempts),
            each.error_code or "",
        )
    return table
