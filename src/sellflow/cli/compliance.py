"""`sellflow compliance`: what Shopify asked for on behalf of customers and merchants, and what was done about it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import nullcontext
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from sellflow.cli import jobs
from sellflow.cli.opening import as_owner, start
from sellflow.errors import ConfigurationError

if TYPE_CHECKING:
    from sellflow.postgres.database import SessionConnection
    from sellflow.shops.compliance.models import Request

console = Console(highlight=False, soft_wrap=True)

compliance = typer.Typer(
    help="Requests to export or erase the data of a customer or a shop: how far each has come, and its record.",
    no_args_is_help=True,
)

RequestId = Annotated[int, typer.Argument(metavar="ID", help="The request's id.", min=1)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(compliance, name="compliance")


@compliance.command("list")
def list_command(
    *,
    unfinished: Annotated[bool, typer.Option("--unfinished", help="Only those that are not done yet.")] = False,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1, max=10_000)] = 50,
    as_json: AsJson = False,
) -> None:
    """List requests, the newest first; those past their due date are marked."""
    from sellflow.shops.compliance.store import list_requests  # noqa: PLC0415

    requests = as_owner(start(), lambda c: list_requests(c, unfinished=unfinished, limit=limit))
    if as_json:
        print(json.dumps([_facts(each) for each in requests], default=str, indent=2))  # noqa: T201 - for a machine
    elif requests:
        console.print(_table(requests))
    else:
        console.print("Nothing waits to be done." if unfinished else "Nothing was asked for yet.")


@compliance.command("show")
def show_command(request_id: RequestId, as_json: AsJson = False) -> None:
    """Show a request, and what was erased for it by table."""
    from sellflow.shops.compliance.store import find_request  # noqa: PLC0415

    request = as_owner(start(), lambda c: find_request(c, request_id))
    if as_json:
        print(json.dumps(_facts(request), default=str, indent=2))  # noqa: T201 - for a machine
        return
    console.print(_table([request]))
    if request.state.value == "held":
        console.print(f"To have it done all the same: [bold]sellflow compliance confirm {request_id}[/]")
    for said in (request.reason, request.last_error and f"The last attempt failed: {request.last_error}"):
        if said:
            console.print(said)
    for table, number in sorted(request.record.items()):
        console.print(f"  {number:>8} {table}")
    if request.expires_at:
        console.print(
            f"Until {request.expires_at:%Y-%m-%d}: [bold]sellflow compliance export {request_id} --out FILE[/]"
        )


@compliance.command("export")
def export_command(
    request_id: RequestId,
    out: Annotated[Path | None, typer.Option(help="The file to write; standard output where none is named.")] = None,
) -> None:
    """Fetch the file of a data request: one JSON document. Hand it to the merchant, who hands it to the customer."""
    from sellflow.secrets import build_vault  # noqa: PLC0415
    from sellflow.shops.compliance.exports import read_export  # noqa: PLC0415

    settings = start()

    async def work(connection: SessionConnection) -> int:
        parts = read_export(connection, build_vault(settings), request_id)
        return await _write(parts, out)

    size = as_owner(settings, work)
    if out is not None:
        console.print(f"{out}: {size} bytes")


async def _write(parts: AsyncIterator[str], out: Path | None) -> int:
    """Write parts as they come. A file is made for its owner's eyes alone, and never replaces another.

    The first part is awaited before that: where there is no export, there is no file.
    """
    first = (await anext(parts)).encode()
    try:
        target = None if out is None else os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise ConfigurationError(f"{out} cannot be written: {error.strerror}; name another file") from error
    with nullcontext(sys.stdout.buffer) if target is None else os.fdopen(target, "wb") as file:
        size = file.write(first)
        async for part in parts:
            size += file.write(part.encode())
        file.flush()
    return size


@compliance.command("confirm")
def confirm_command(request_id: RequestId) -> None:
    """Have a held request done all the same: erase a shop that is marked as installed."""
    from sellflow.shops.compliance.store import confirm, find_request  # noqa: PLC0415

    async def work(connection: SessionConnection) -> Request:
        if not await confirm(connection, request_id):
            request = await find_request(connection, request_id)
            raise ConfigurationError(f"request {request_id} is {request.state.value}, not held: nothing was changed")
        return await find_request(connection, request_id)

    request = as_owner(start(), work)
    console.print(
        f"[bold]{request.shop_domain}[/] will be erased, with everything that is stored of it: by the next run of the "
        "job, or now: sellflow compliance run"
    )


@compliance.command("run")
def run_command() -> None:
    """Take the next step of every request that waits for one, now; safe while a scheduler runs."""
    from sellflow.shops.compliance.fulfilment import NAME  # noqa: PLC0415
    from sellflow.shops.compliance.store import hurry  # noqa: PLC0415

    as_owner(start(), hurry)
    jobs.run(NAME)


def _facts(request: Request) -> dict[str, object]:
    facts = asdict(request)
    facts.pop("touched")
    facts.pop("fence")
    if request.person is not None:
        facts["person"]["order_ids"] = sorted(request.person.order_ids)
    return facts | {"overdue": request.is_overdue(datetime.now(UTC))}


def _table(requests: list[Request]) -> Table:
    table = Table("Id", "Asked for", "Shop", "Of", "Received", "Due", "State")
    now = datetime.now(UTC)
    for each in requests:
        table.add_row(
            str(each.request_id),
            each.kind.value.replace("_", " "),
            each.shop_domain or "erased",
            _whom(each),
            f"{each.received_at:%Y-%m-%d}",
            f"{each.due_at:%Y-%m-%d}",
            f"[bold red]{each.state.value}, overdue[/]" if each.is_overdue(now) else each.state.value,
        )
    return table


def _whom(request: Request) -> str:
    if request.kind.value == "shop_redact":
        return "the shop"
    if request.person is None:
        return "erased"
    if request.person.customer_id is not None:
        return f"customer {request.person.customer_id}"
    return request.person.email or request.person.phone or f"{len(request.person.order_ids)} orders"
