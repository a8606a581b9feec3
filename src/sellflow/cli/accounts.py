"""`sellflow apps|shops|earning-rule|token`: who there is, and what they may."""

from __future__ import annotations

import sys
from decimal import Decimal, InvalidOperation
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from sellflow.cli.opening import as_owner, start
from sellflow.errors import ConfigurationError

console = Console(highlight=False, soft_wrap=True)

apps = typer.Typer(
    help="Shopify apps: a client id, its secrets, and the path its webhooks are sent to.",
    no_args_is_help=True,
)
shops = typer.Typer(help="Shops that installed an app.", no_args_is_help=True)

Handle = Annotated[str, typer.Argument(help="The app's handle, the last part of its webhook path.")]
Domain = Annotated[str, typer.Argument(help="The shop's domain, such as name.myshopify.com.")]
FromStdin = Annotated[bool, typer.Option("--secret-stdin", help="Read the client secret from standard input.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(apps, name="apps")
    app.add_typer(shops, name="shops")
    app.command("earning-rule")(earning_rule)
    app.command("token")(token)


def _read_secret(from_stdin: bool) -> str:
    """Read a secret without it standing in the shell's history or the process list."""
    secret = sys.stdin.readline().strip() if from_stdin else typer.prompt("Client secret", hide_input=True)
    if not secret:
        raise ConfigurationError("the client secret is empty")
    return str(secret)


@apps.command("add")
def add_app(
    handle: Handle,
    client_id: Annotated[str, typer.Option(help="The app's client id; the handle when left out.")] = "",
    secret_stdin: FromStdin = False,
) -> None:
    """Add an app. A known one keeps its secret: that is changed with `rotate`."""
    from sellflow.secrets import build_vault  # noqa: PLC0415
    from sellflow.shops import store  # noqa: PLC0415

    settings, secret = start(), _read_secret(secret_stdin)
    vault = build_vault(settings)
    app = as_owner(
        settings,
        lambda c: store.add_app(c, vault, handle=handle, client_id=client_id or handle, client_secret=secret),
    )
    console.print(f"App [bold]{app.handle}[/]: its webhooks go to {settings.web_url}/webhooks/shopify/{app.handle}")
    if app.client_secret != secret:
        console.print("It was known already and kept its secret; change that with: sellflow apps rotate " + handle)


@apps.command("configure")
def configure_app(
    handle: Handle,
    scopes: Annotated[
        str, typer.Option(help="Its access scopes, separated by commas; `default` for the settings'.")
    ] = "",
    shopify_url: Annotated[str, typer.Option(help="Where its shops are, with {shop}; `default` for Shopify.")] = "",
) -> None:
    """Say what an app asks merchants for, and where its Shopify is."""
    from sellflow.postgres.database import SessionConnection  # noqa: PLC0415
    from sellflow.shops import store  # noqa: PLC0415

    async def work(connection: SessionConnection) -> None:
        if scopes:
            wanted = None if scopes == "default" else [each.strip() for each in scopes.split(",") if each.strip()]
            await store.set_scopes(connection, handle, wanted)
        if shopify_url:
            await store.set_shopify_url(connection, handle, None if shopify_url == "default" else shopify_url)

    as_owner(start(), work)
    console.print(f"{handle} is configured. Tell Shopify of scopes, too: sellflow shopify app-config --app {handle}")


@apps.command("list")
def list_apps() -> None:
    """Show the apps; secrets are never shown."""
    from sellflow.secrets import build_vault  # noqa: PLC0415
    from sellflow.shops import store  # noqa: PLC0415

    table = Table("Handle", "Client id", "Webhook path", "Accepts the previous secret")
    settings = start()
    vault = build_vault(settings)
    for app in as_owner(settings, lambda c: store.list_apps(c, vault)):
        previous = "yes, until forgotten" if app.previous_secret else "no"
        table.add_row(app.handle, app.client_id, f"/webhooks/shopify/{app.handle}", previous)
    console.print(table if table.rows else "No app yet. Add one: sellflow apps add HANDLE --client-id ID")


@apps.command("rotate")
def rotate_secret(handle: Handle, secret_stdin: FromStdin = False) -> None:
    """Give an app a new secret; signatures by the one before stay accepted until it is forgotten."""
    from sellflow.secrets import build_vault  # noqa: PLC0415
    from sellflow.shops import store  # noqa: PLC0415

    settings, secret = start(), _read_secret(secret_stdin)
    vault = build_vault(settings)
    as_owner(settings, lambda c: store.rotate_secret(c, vault, handle, secret))
    console.print(f"Rotated. Once Shopify signs with the new secret: sellflow apps forget-previous {handle}")


@apps.command("forget-previous")
def forget_previous(handle: Handle) -> None:
    """Accept signatures by the current secret alone."""
    from sellflow.shops import store  # noqa: PLC0415

    as_owner(start(), lambda c: store.forget_previous_secret(c, handle))
    console.print(f"{handle} accepts its current secret alone, within ten seconds everywhere.")


@shops.command("add")
def add_shop(
    domain: Domain,
    app: Annotated[str, typer.Option(help="The handle of the app it installed.")],
    currency: Annotated[str, typer.Option(help="The shop's currency, such as USD.")] = "USD",
    points_per_unit: Annotated[str, typer.Option(help="Points for each 1.00 of the shop's currency.")] = "1",
) -> None:
    """Add a shop. Webhooks that came before it are handled now."""
    from sellflow.loyalty.models import Rounding  # noqa: PLC0415
    from sellflow.loyalty.program_store import set_spend_rule  # noqa: PLC0415
    from sellflow.postgres.database import SessionConnection  # noqa: PLC0415
    from sellflow.queue.event_log import adopt  # noqa: PLC0415
    from sellflow.roles import build_registry  # noqa: PLC0415
    from sellflow.secrets import build_vault  # noqa: PLC0415
    from sellflow.shops import store  # noqa: PLC0415

    settings, rate = start(), _rate(points_per_unit)

    async def work(connection: SessionConnection) -> tuple[int, int]:
        owner = await store.find_app(connection, build_vault(settings), app)
        async with connection.transaction():
            shop = await store.install_shop(connection, app_id=owner.app_id, domain=domain, currency=currency)
            await set_spend_rule(connection, shop.shop_id, points_per_unit=rate, rounding=Rounding.DOWN)
            return shop.shop_id, await adopt(connection, build_registry(settings))

    shop_id, adopted = as_owner(settings, work)
    console.print(f"Shop [bold]{domain}[/] has the id {shop_id}; {adopted} webhooks had waited for it.")


@shops.command("list")
def list_shops() -> None:
    """Show the shops."""
    from sellflow.shops import store  # noqa: PLC0415

    table = Table("Id", "Domain", "Currency", "Installed", "Removed")
    for shop in as_owner(start(), store.list_shops):
        removed = f"{shop.uninstalled_at:%Y-%m-%d %H:%M}" if shop.uninstalled_at else ""
        table.add_row(str(shop.shop_id), shop.domain, shop.currency, f"{shop.installed_at:%Y-%m-%d %H:%M}", removed)
    console.print(table if table.rows else "No shop yet. Add one: sellflow shops add DOMAIN --app HANDLE")


def earning_rule(
    domain: Domain,
    points_per_unit: Annotated[str, typer.Option(help="Points for each 1.00 of the shop's currency.")],
    rounding: Annotated[str, typer.Option(help="down, half_up or up.")] = "down",
) -> None:
    """Put a new version of a shop's earning rule in force. What was earned keeps the version it was earned by."""
    from sellflow.loyalty.models import Rounding  # noqa: PLC0415
    from sellflow.loyalty.program_store import ProgramVersion, set_spend_rule  # noqa: PLC0415
    from sellflow.postgres.database import SessionConnection  # noqa: PLC0415
    from sellflow.shops import store  # noqa: PLC0415

    if rounding not in list(Rounding):
        raise ConfigurationError(f"--rounding is one of {', '.join(Rounding)}, not {rounding!r}")
    rate = _rate(points_per_unit)

    async def work(connection: SessionConnection) -> ProgramVersion:
        shop = await store.find_shop(connection, domain)
        return await set_spend_rule(connection, shop.shop_id, points_per_unit=rate, rounding=Rounding(rounding))

    saved = as_owner(start(), work)
    console.print(f"Version {saved.version} is in force: {rate.normalize():f} points a unit, rounded {rounding}.")


def _rate(text: str) -> Decimal:
    try:
        rate = Decimal(text)
    except InvalidOperation:
        rate = Decimal(-1)
    if not rate.is_finite() or not 0 <= rate <= 1_000_000 or rate != rate.quantize(Decimal("0.0001")):
        raise ConfigurationError(f"--points-per-unit is a number from 0 to 1000000 with up to 4 decimals, not {text!r}")
    return rate


def token(
    domain: Domain,
    customer: Annotated[int, typer.Argument(help="Shopify's id of the customer.", min=1, max=2**63 - 1)],
) -> None:
    """Print a token that acts for a customer, to try the mobile API with."""
    from sellflow.edge.customer_tokens import CustomerSession, issue_token  # noqa: PLC0415
    from sellflow.postgres.database import SessionConnection  # noqa: PLC0415
    from sellflow.secrets import build_vault  # noqa: PLC0415
    from sellflow.shops import store  # noqa: PLC0415

    settings = start()

    async def work(connection: SessionConnection) -> str:
        shop = await store.find_shop(connection, domain)
        session = CustomerSession(shop.shop_id, customer)
        return await issue_token(connection, build_vault(settings), session, ttl=settings.customer_token_ttl)

    print(as_owner(settings, work))  # noqa: T201 - alone on standard output, for a shell to take
