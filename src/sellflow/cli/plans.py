"""`sellflow plans …`, `sellflow apps billing` and `sellflow shops plan`: what merchants may, and how they pay."""

from __future__ import annotations

import getpass
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sellflow.cli.opening import as_owner, start
from sellflow.errors import ConfigurationError

if TYPE_CHECKING:
    from sellflow.postgres.database import SessionConnection
    from sellflow.shops.plans.definitions import Changes, PlanSpec
    from sellflow.shops.plans.models import Plan

console = Console(highlight=False, soft_wrap=True)

plans = typer.Typer(help="Plans: what merchants may, and what it costs them.", no_args_is_help=True)

Handle = Annotated[str, typer.Argument(help="The plan's handle.")]
Domain = Annotated[str, typer.Argument(help="The shop's domain, such as name.myshopify.com.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for a program to read.")]
Pairs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="NAME=VALUE", help="As in the file: name=Pro price=29 currency=USD features=a,b endpoints=5"
    ),
]
_LISTS = ("features", "shopify_names")


def register(app: typer.Typer, apps: typer.Typer, shops: typer.Typer) -> None:
    """Add the commands; two of them below `apps` and `shops`."""
    app.add_typer(plans, name="plans")
    apps.command("billing")(app_billing)
    shops.command("plan")(shop_plan)


@plans.command("list")
def list_all(as_json: AsJson = False) -> None:
    """Show the plans, and how many shops have each."""
    from sellflow.shops.plans import store  # noqa: PLC0415

    async def work(connection: SessionConnection) -> tuple[list[Plan], dict[str, int]]:
        return await store.list_plans(connection), await store.count_shops(connection)

    found, shops = as_owner(start(), work)
    if as_json:
        _print_json([asdict(plan) | {"shops": shops.get(plan.handle, 0)} for plan in found])
        return
    table = Table("Handle", "Name", "Price", "Limits", "Features", "Shops", "")
    for plan in found:
        price = f"{plan.price} {plan.currency} {plan.billing_interval}" if plan.price else ""
        state = "default" if plan.is_default else "archived" if plan.archived_at else ""
        shown = (plan.handle, escape(plan.name), price, _limits(plan), ", ".join(plan.features))
        table.add_row(*shown, str(shops.get(plan.handle, 0)), state)
    console.print(table)


def _limits(plan: Plan) -> str:
    from sellflow.shops.plans.definitions import LimitsSpec  # noqa: PLC0415

    found = ((name, getattr(plan, name)) for name in LimitsSpec.model_fields)
    return "\n".join(f"{name} {value:g}" for name, value in found if value is not None)


@plans.command("add")
def add(handle: Handle, values: Pairs = None) -> None:
    """Add a plan."""
    from sellflow.errors import NotFoundError  # noqa: PLC0415
    from sellflow.shops.plans import store  # noqa: PLC0415
    from sellflow.shops.plans.models import Plan  # noqa: PLC0415

    async def work(connection: SessionConnection) -> Changes:
        try:
            await store.find_plan(connection, handle)
        except NotFoundError:
            return await _put(connection, Plan(handle=handle, name=handle), values or [])
        raise ConfigurationError(f"there is a plan {handle!r} already: change it with `sellflow plans set`")

    _show(as_owner(start(), work))


@plans.command("set")
def set_some(handle: Handle, values: Pairs = None) -> None:
    """Change some of a plan; without a value, back to none. Shops that have it have the new one within seconds."""
    from sellflow.shops.plans import store  # noqa: PLC0415

    async def work(connection: SessionConnection) -> Changes:
        return await _put(connection, await store.find_plan(connection, handle), values or [])

    _show(as_owner(start(), work))


async def _put(connection: SessionConnection, plan: Plan, values: list[str]) -> Changes:
    from sellflow.shops.plans.definitions import LimitsSpec, apply_plans, changed_spec  # noqa: PLC0415

    given = dict(_pair(each) for each in values)
    limits = {name: given.pop(name) for name in LimitsSpec.model_fields if name in given}
    return await apply_plans(connection, {plan.handle: changed_spec(plan, limits=limits, **given)})


def _pair(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigurationError(f"a value is given as NAME=VALUE, not {text!r}")
    if name in _LISTS:
        return name, [each.strip() for each in value.split(",") if each.strip()]
    return name, value if value or name in ("name", "description") else None


@plans.command("archive")
def archive(handle: Handle) -> None:
    """Offer a plan no more; shops that have it keep it."""
    from sellflow.shops.plans import store  # noqa: PLC0415

    shops = as_owner(start(), lambda c: store.archive_plan(c, handle))
    console.print(f"{handle} is not offered any more; {shops} shops have it and keep it.")


@plans.command("apply")
def apply(
    file: Annotated[Path, typer.Argument(help="A TOML file of plans; docs/guides/plans.md shows one.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Make the plans what a file says, after showing what would change. Plans that it does not name stay."""
    from sellflow.shops.plans.definitions import apply_plans, changes, read_plans  # noqa: PLC0415
    from sellflow.shops.plans.store import list_plans  # noqa: PLC0415

    try:
        wanted: dict[str, PlanSpec] = read_plans(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}") from error
    settings = start()

    async def look(connection: SessionConnection) -> Changes:
        return changes({plan.handle: plan for plan in await list_plans(connection)}, wanted)

    found = as_owner(settings, look)
    _show(found)
    if not found:
        return
    if not yes and not typer.confirm("Apply this?"):
        raise typer.Exit(1)
    as_owner(settings, lambda c: apply_plans(c, wanted))
    console.print("Applied: it holds everywhere within seconds.")


def _show(found: Changes) -> None:
    if not found:
        console.print("Nothing changes.")
    for handle, values in found.items():
        console.print(f"[bold]{handle}[/]")
        for name, (before, after) in values.items():
            if before != after:
                console.print(f"  {name}: {escape(_shown(before))} -> {escape(_shown(after))}")


def _shown(value: object) -> str:
    return "none" if value is None else ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


def app_billing(
    handle: Annotated[str, typer.Argument(help="The app's handle.")],
    mode: Annotated[str, typer.Option(help="managed (Shopify App Pricing), manual (Billing API) or none.")] = "",
    test: Annotated[bool | None, typer.Option(help="Whether subscriptions are tests, which nobody pays.")] = None,
    pricing_handle: Annotated[str, typer.Option(help="The app's handle at Shopify, where it is not ours.")] = "",
) -> None:
    """Say how an app's merchants pay. Custom apps cannot bill: for those an operator sets plans."""
    from sellflow.shops.plans.billing_store import set_app_billing  # noqa: PLC0415

    as_owner(
        start(),
        lambda c: set_app_billing(c, handle, billing=mode or None, is_test=test, pricing_handle=pricing_handle or None),
    )
    console.print(f"{handle} bills as said.")


def shop_plan(
    domain: Domain,
    set_to: Annotated[str, typer.Option("--set", help="Give it this plan, whatever Shopify says of payments.")] = "",
    release: Annotated[bool, typer.Option("--release", help="Leave its plan to billing again.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show a shop's plan, its usage and history; or set it."""
    from sellflow.shops.plans import billing_store, store, usage  # noqa: PLC0415
    from sellflow.shops.store import find_shop  # noqa: PLC0415

    if set_to and release:
        raise ConfigurationError("--set and --release contradict each other: name one")
    by = getpass.getuser()

    async def work(connection: SessionConnection) -> dict[str, Any]:
        shop_id = (await find_shop(connection, domain)).shop_id
        if set_to:
            await store.set_by_operator(connection, shop_id, set_to, by=by)
        if release and not await store.release(connection, shop_id, by=by):
            raise ConfigurationError(f"no operator set the plan of {domain}: there is nothing to release")
        if release:
            await billing_store.ask_for_check(connection, [shop_id])
        billing = await connection.fetchrow("SELECT * FROM shop_billing WHERE shop_id = $1", shop_id)
        return {
            "plan": asdict(await store.plan_of_shop(connection, shop_id)),
            "usage": asdict(await usage.usage_of(connection, shop_id)),
            "billing": dict(billing) if billing else None,
            "history": [asdict(each) for each in await store.history(connection, shop_id)],
        }

    found = as_owner(start(), work)
    if as_json:
        _print_json(found)
    else:
        _show_shop(found)


def _show_shop(found: dict[str, Any]) -> None:
    plan, used, billing = found["plan"], found["usage"], found["billing"]
    console.print(f"[bold]{escape(plan['name'])}[/] ({plan['handle']})")
    console.print(f"{used['orders']}{_of(plan['orders_per_month'])} orders since {used['since']:%Y-%m-%d}")
    limits = ", ".join(f"{used[name]}{_of(plan[name])} {name}" for name in ("customers", "endpoints"))
    console.print(limits)
    if billing:
        console.print(f"Shopify: {billing['status'] or 'no subscription'} {escape(billing['last_error'])}".rstrip())
    table = Table("Since", "Plan", "Said by", "Why")
    for each in found["history"]:
        said = f"{each['source']} {each['set_by']}".strip()
        table.add_row(f"{each['effective_at']:%Y-%m-%d %H:%M}", each["plan"], escape(said), escape(each["reason"]))
    if found["history"]:
        console.print(table)


def _of(limit: int | None) -> str:
    return "" if limit is None else f" of {limit}"


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2, default=str))  # noqa: T201 - for a program to read
