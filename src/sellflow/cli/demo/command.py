"""The command. What it needs is loaded when it runs: every other command starts without it."""

from __future__ import annotations

from typing import Annotated

import typer

FEWEST_ORDERS = 200


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo")(demo)


def demo(
    *,
    orders: Annotated[int, typer.Option(min=FEWEST_ORDERS, max=100_000, help="How many orders.")] = FEWEST_ORDERS,
    kills: Annotated[int, typer.Option(min=1, max=20, help="How many workers are killed holding claims.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, alone on standard output.")] = False,
) -> None:
    """Play orders with duplicates, refunds, reordering and killed workers, and check every point of the ledger.

    Exits with 1 when anything was lost or doubled.
    """
    from sellflow.cli.demo.performance import run_demo  # noqa: PLC0415

    run_demo(orders=orders, kills=kills, as_json=as_json)
