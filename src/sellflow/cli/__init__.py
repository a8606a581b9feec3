"""The `sellflow` command. Each module holds one family of commands; heavy imports wait until one runs."""

from __future__ import annotations

import sys

import typer
from rich.console import Console

from sellflow.cli import (
    accounts,
    compliance,
    database,
    deadletters,
    demo,
    endpoints,
    explain,
    imports,
    jobs,
    keys,
    plans,
    queues,
    reconcile,
    roles,
    secrets,
    settings,
    shopify,
    shopify_calls,
    simulate,
    topics,
    up,
)
from sellflow.errors import ConfigurationError, SellflowError

app = typer.Typer(
    help="The backend of a Shopify store's own mobile app, on one Postgres.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
up.register(app)
roles.register(app)
database.register(app)
accounts.register(app)
settings.register(accounts.shops)
plans.register(app, accounts.apps, accounts.shops)
endpoints.register(app)
shopify.register(app)
shopify_calls.register(app)
secrets.register(app)
simulate.register(app)
demo.register(app)
explain.register(app)
queues.register(app)
deadletters.register(app)
topics.register(app)
jobs.register(app)
imports.register(app)
keys.register(app)
compliance.register(app)
reconcile.register(app)


def main() -> None:
    """Run the command line; an error of ours is one clear message, not a stack trace."""
    try:
        app()
    except SellflowError as error:
        Console(stderr=True).print(f"[bold red]error[/] {error.code}\n{error}", highlight=False, soft_wrap=True)
        sys.exit(2 if isinstance(error, ConfigurationError) else 1)
