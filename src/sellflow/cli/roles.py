"""`sellflow web|worker|scheduler|simulator`: one process role each."""

from __future__ import annotations

from typing import Annotated

import typer

from sellflow.cli.opening import ready_database, start


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("web")(web)
    app.command("worker")(worker)
    app.command("scheduler")(scheduler)
    app.command("simulator")(simulator)


def web() -> None:
    """Serve webhooks, the mobile API and the status page."""
    from sellflow import roles  # noqa: PLC0415

    settings = start()
    listener = roles.bind(settings.web_host, settings.web_port, setting="SELLFLOW_WEB_PORT")
    with ready_database(settings) as database:
        roles.run(roles.web(database, listener))


def worker(
    queues: Annotated[str, typer.Option(help="Queues to serve, separated by commas; all when left out.")] = "",
) -> None:
    """Handle what waits in the queues."""
    from sellflow import roles  # noqa: PLC0415

    settings = start()
    names = [name.strip() for name in (queues or settings.worker_queues).split(",") if name.strip()]
    with ready_database(settings) as database:
        roles.run(roles.worker(database, names))


def scheduler() -> None:
    """Do periodic work; of several schedulers one leads and the others stand by."""
    from sellflow import roles  # noqa: PLC0415

    with ready_database(start()) as database:
        roles.run(roles.scheduler(database))


def simulator() -> None:
    """Serve a simulated Shopify to develop against."""
    from sellflow import roles  # noqa: PLC0415

    settings = start()
    listener = roles.bind(settings.simulator_host, settings.simulator_port, setting="SELLFLOW_SIMULATOR_PORT")
    roles.run(roles.simulator(settings, listener))
