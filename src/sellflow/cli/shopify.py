"""`sellflow shopify …`: connecting stores, and seeing whether they are."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from sellflow.cli.opening import as_owner, start
from sellflow.errors import ConfigurationError, SellflowError

if TYPE_CHECKING:
    from sellflow.postgres.database import SessionConnection
    from sellflow.shops.check import Finding
    from sellflow.shops.models import App, Shop

console = Console(highlight=False, soft_wrap=True)

shopify = typer.Typer(
    help="Shopify: connect a store, see whether it is connected, and what Shopify has to know.", no_args_is_help=True
)

Domain = Annotated[str, typer.Argument(help="The shop's domain, such as name.myshopify.com.")]
Handle = Annotated[str, typer.Option("--app", help="The app's handle.")]
_COLOURS = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(shopify, name="shopify")


@shopify.command("check")
def check(
    app: Annotated[str, typer.Option(help="The handle of one app; all, when left out.")] = "",
    shop: Annotated[str, typer.Option(help="The domain of one shop; all that have the app, when left out.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for a program to read.")] = False,
) -> None:
    """Try credentials, token, scopes, webhooks, address, clock and API version; say what to mend."""
    from sellflow.postgres.transactions import of_session  # noqa: PLC0415
    from sellflow.secrets import build_vault  # noqa: PLC0415
    from sellflow.shopify.tokens import AccessTokens  # noqa: PLC0415
    from sellflow.shopify.tokens.endpoint import TokenEndpoint  # noqa: PLC0415
    from sellflow.shops.check import Check  # noqa: PLC0415
    from sellflow.shops.store import list_apps, list_shops  # noqa: PLC0415

    settings = start()

    async def work(connection: SessionConnection) -> list[tuple[str, Finding]]:
        vault = build_vault(settings)
        apps, shops = await list_apps(connection, vault), await list_shops(connection)
        tokens = AccessTokens(transactions=of_session(connection), vault=vault, endpoint=TokenEndpoint())
        looking = Check(settings, tokens)
        found: list[tuple[str, Finding]] = []
        try:
            for each in _chosen(apps, app):
                found += [(each.handle, finding) for finding in await looking.app(each)]
                for one in _of_app(shops, each, shop):
                    found += [(f"{each.handle} in {one.domain}", finding) for finding in await looking.shop(each, one)]
        finally:
            await tokens.close()
        return found

    found = as_owner(settings, work)
    if as_json:
        _print_json([{"where": where, **finding._asdict()} for where, finding in found])
    else:
        _show(found)
    if any(finding.level == "fail" for _, finding in found):
        raise typer.Exit(1)


def _chosen(apps: list[App], handle: str) -> list[App]:
    chosen = [each for each in apps if handle in ("", each.handle)]
    if not chosen:
        raise ConfigurationError(f"there is no app {handle or 'yet'}: `sellflow apps add` makes one")
    return chosen


def _of_app(shops: list[Shop], app: App, domain: str) -> list[Shop]:
    return [
        each
        for each in shops
        if each.app_id == app.app_id and each.uninstalled_at is None and domain.lower() in ("", each.domain)
    ]


def _show(found: list[tuple[str, Finding]]) -> None:
    table = Table("Where", "What", "", "Found", "What to do")
    for where, finding in found:
        level = f"[{_COLOURS[finding.level]}]{finding.level}[/]"
        table.add_row(where, finding.about, level, finding.said, finding.mend)
    console.print(table)


@shopify.command("connect")
def connect(
    domain: Domain,
    app: Handle,
    token_stdin: Annotated[
        bool, typer.Option("--token-stdin", help="Read an Admin API token from standard input and use that.")
    ] = False,
) -> None:
    """Connect a shop without its admin: by the app's own credentials, or by a token that you have."""
    from sellflow.queue.event_log import adopt  # noqa: PLC0415
    from sellflow.roles import build_registry  # noqa: PLC0415
    from sellflow.secrets import build_vault  # noqa: PLC0415
    from sellflow.shopify.domains import read_shop_domain  # noqa: PLC0415
    from sellflow.shops.connect import connect_shop  # noqa: PLC0415
    from sellflow.shops.store import find_app  # noqa: PLC0415

    settings, name = start(), read_shop_domain(domain)
    token = sys.stdin.readline().strip() if token_stdin else ""
    if token_stdin and not token:
        raise ConfigurationError("the token is empty")

    async def work(connection: SessionConnection) -> tuple[Shop, int]:
        vault = build_vault(settings)
        known = await find_app(connection, vault, app)
        shop = await connect_shop(connection, vault, settings, app=known, domain=name, token=token)
        return shop, await adopt(connection, build_registry(settings, vault))

    shop, adopted = as_owner(settings, work)
    console.print(f"Shop [bold]{shop.domain}[/] is connected ({shop.currency}); {adopted} webhooks had waited for it.")
    console.print(f"See whether all is well: sellflow shopify check --shop {shop.domain}")


@shopify.command("migrate")
def migrate(domain: Domain) -> None:
    """Exchange a token without expiry for one that expires and is renewed, for good."""
    from sellflow.postgres.transactions import of_session  # noqa: PLC0415
    from sellflow.secrets import build_vault  # noqa: PLC0415
    from sellflow.shopify.tokens import AccessTokens  # noqa: PLC0415
    from sellflow.shopify.tokens.endpoint import TokenEndpoint  # noqa: PLC0415
    from sellflow.shopify.tokens.store import find_token  # noqa: PLC0415
    from sellflow.shops.store import find_shop  # noqa: PLC0415

    settings = start()

    async def work(connection: SessionConnection) -> str:
        shop = await find_shop(connection, domain)
        tokens = AccessTokens(
            transactions=of_session(connection), vault=build_vault(settings), endpoint=TokenEndpoint()
        )
        try:
            await tokens.migrate(shop.shop_id)
        finally:
            await tokens.close()
        stored = await find_token(connection, shop.shop_id)
        return "" if stored and stored.seconds_left is not None else (stored.last_error if stored else "it is gone")

    if refused := as_owner(settings, work):
        raise SellflowError(f"the token of {domain} stays as it is: {refused}")
    console.print("Its token expires from now on, and is renewed by itself.")


@shopify.command("app-config")
def app_config(app: Handle) -> None:
    """Print the shopify.app.toml of an app, to deploy with Shopify's command line."""
    from sellflow.roles import build_registry  # noqa: PLC0415
    from sellflow.secrets import build_vault  # noqa: PLC0415
    from sellflow.shops import app_config as written  # noqa: PLC0415
    from sellflow.shops.install import wanted_scopes  # noqa: PLC0415
    from sellflow.shops.store import find_app  # noqa: PLC0415

    settings = start()
    known = as_owner(settings, lambda c: find_app(c, build_vault(settings), app))
    text = written.app_config(
        build_registry(settings).subscriptions.values(),
        handle=known.handle,
        client_id=known.client_id,
        public_url=settings.public_url or written.PUBLIC_URL,
        scopes=wanted_scopes(known, settings),
        api_version=settings.shopify_api_version,
    )
    print(text, end="")  # noqa: T201 - a file, for a shell to take
    if not settings.public_url:
        Console(stderr=True).print(f"SELLFLOW_PUBLIC_URL is not set: replace {written.PUBLIC_URL} by your own address.")


def _print_json(rows: object) -> None:
    print(json.dumps(rows, indent=2))  # noqa: T201 - for a program to read
