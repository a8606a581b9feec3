"""`sellflow up`: everything on this machine, in one command."""

from __future__ import annotations

import asyncio
import importlib
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import typer
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from sellflow.cli.opening import start
from sellflow.cli.processes import StopRequestedError, Supervisor, stop_on_signals
from sellflow.demo_shop import DEMO_APP, DEMO_DOMAIN, seed_demo_shop
from sellflow.errors import SellflowError
from sellflow.postgres.database import Database, Login
from sellflow.postgres.opening import open_database, prepare
from sellflow.secrets import build_vault
from sellflow.settings import Settings

console = Console(highlight=False, soft_wrap=True)
READY_TIMEOUT = 30.0


class NotReadyError(SellflowError):
    """A role was started and does not answer."""

    code = "up.not_ready"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("up")(up)


def up() -> None:
    """Run Postgres, web, worker, scheduler and, in development, the simulator with a demo shop. Ctrl-C stops it."""
    started = time.monotonic()
    settings = start()
    stop_on_signals()
    with ExitStack() as stack:
        try:
            supervisor = Supervisor()
            database = start_everything(settings, supervisor, stack, console)
            customer = asyncio.run(_welcome(settings)) if _is_simulated(settings) else None
            _show(settings, database, customer, time.monotonic() - started)
            supervisor.watch()
        except StopRequestedError:
            console.print("\nStopping: what is in hand is finished first. The data stays.")
            return
    raise typer.Exit(1)  # a role kept dying; the log says which


def _is_simulated(settings: Settings) -> bool:
    return settings.environment != "production"


def start_everything(settings: Settings, supervisor: Supervisor, stack: ExitStack, console: Console) -> Database:
    """Start everything; `stack` takes it down again, roles before Postgres."""
    from sellflow import roles  # noqa: PLC0415

    # Ports first: nothing has been started yet that would have to be taken down again.
    web = stack.enter_context(roles.bind(settings.web_host, settings.web_port, setting="SELLFLOW_WEB_PORT"))
    simulator: socket.socket | None = None
    if _is_simulated(settings):
        simulator = stack.enter_context(
            roles.bind(settings.simulator_host, settings.simulator_port, setting="SELLFLOW_SIMULATOR_PORT")
        )
    with _step(console, "Postgres"):
        database = stack.enter_context(open_database(settings))
    with _step(console, "Schema, queues and partitions"):
        _prepare_in_child(database)
    stack.callback(supervisor.stop)
    with _step(console, "Roles"):
        for module in (
            "sellflow.app",
            "uvloop",
            "uvicorn.protocols.http.httptools_impl",
            "uvicorn.lifespan.on",
        ):
            importlib.import_module(module)
    supervisor.start("web", lambda: roles.run(roles.web(database, web)))
    background = (roles.worker(database), roles.scheduler(database))
    supervisor.start("worker and scheduler", lambda: roles.run(roles.together(*background)))
    if simulator:
        listener = simulator
        supervisor.start("simulator", lambda: roles.run(roles.simulator(settings, listener)))
    with _step(console, "Ready"):
        _wait_until_ready(f"{settings.web_url}/readyz")
        if simulator:
            _wait_until_ready(f"{settings.simulator_url}/healthz")
    return database


@contextmanager
def _step(console: Console, name: str) -> Iterator[None]:
    """Show a step while it is done; the display's thread has ended before anything is forked after it."""
    started = time.monotonic()
    with console.status(name):
        yield
    console.print(f"[green]✓[/] {name} [dim]{time.monotonic() - started:.1f} s[/]")


def _prepare_in_child(database: Database) -> None:
    """Migrate and seed in a process of its own: what that loads is not kept in memory for good."""
    from sellflow.roles import prepare_above  # noqa: PLC0415

    async def work() -> None:
        await prepare(database, prepare_above(database.settings))
        if _is_simulated(database.settings):
            connection = await database.connect(Login.OWNER, purpose="seed")
            await seed_demo_shop(connection, build_vault(database.settings), database.settings)
            await connection.close()

    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            asyncio.run(work())
            status = 0
        except SellflowError as error:
            console.print(f"[bold red]error[/] {error.code}\n{error}")
        finally:
            os._exit(status)
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
        raise typer.Exit(1)


def _wait_until_ready(url: str) -> None:
    import httpx  # noqa: PLC0415 - commands that wait for nobody start without it

    deadline = time.monotonic() + READY_TIMEOUT
    while time.monotonic() < deadline:
        try:
            if httpx.get(url, timeout=2, trust_env=False).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise NotReadyError(f"{url} did not answer with 200 within {READY_TIMEOUT:.0f} seconds; the log above says why")


async def _welcome(settings: Settings) -> int:
    """Make the simulator know the demo shop, and return one of its customers to show."""
    from sellflow.cli.store import register_demo_store  # noqa: PLC0415
    from sellflow.simulator import client  # noqa: PLC0415

    await register_demo_store(settings)
    return (await client.customers(settings.simulator_url, DEMO_DOMAIN))[0]


def _show(settings: Settings, database: Database, customer_id: int | None, seconds: float) -> None:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("[bold]Status page[/]", f"{settings.web_url}/")
    table.add_row("[bold]Mobile API[/]", f"{settings.web_url}/v1/loyalty   [dim]OpenAPI: /openapi.json[/]")
    if customer_id:
        table.add_row("[bold]Webhooks[/]", f"{settings.web_url}/webhooks/shopify/{DEMO_APP}")
        table.add_row("[bold]Simulator[/]", f"{settings.simulator_url}   [dim]shop {DEMO_DOMAIN}[/]")
    table.add_row("[bold]Worker, scheduler[/]", "in the background; the status page shows them")
    table.add_row("[bold]Postgres[/]", database.session_url)
    console.print(Panel(table, title=f"Sellflow is ready after {seconds:.1f} s", title_align="left", expand=False))
    if customer_id:
        console.print("Try it in another terminal:")
        console.print("  .venv/bin/sellflow simulate orders --count 20 --rate 5")
        console.print("  .venv/bin/sellflow demo")
        console.print(f"  TOKEN=$(.venv/bin/sellflow token {DEMO_DOMAIN} {customer_id})")
        console.print(f'  curl -H "Authorization: Bearer $TOKEN" {settings.web_url}/v1/loyalty')
    console.print("Ctrl-C stops everything.")
