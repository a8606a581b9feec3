"""The SQL of plans and of which shop has which. The owner writes; everybody reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

import asyncpg

from sellflow.errors import ConfigurationError, NotFoundError
from sellflow.postgres.database import Connection, SessionConnection
from sellflow.shops.plans.models import Assignment, Plan, Source

_PLAN = ", ".join(each.name for each in fields(Plan))
_ASSIGNMENT = "plan, source, set_by, subscription_id, reason, effective_at, trial_ends_at"
#: The word that holds for shop $1: the last of those in effect.
_IN_EFFECT = """
    SELECT a.* FROM shop_plans a WHERE a.shop_id = $1 AND a.effective_at <= clock_timestamp()
    ORDER BY a.assignment_id DESC LIMIT 1
"""


async def list_plans(connection: Connection, *, archived: bool = True) -> list[Plan]:
    """Return the plans as merchants should see them sorted."""
    rows = await connection.fetch(
        f"SELECT {_PLAN} FROM plans WHERE $1 OR archived_at IS NULL ORDER BY position, price NULLS FIRST, handle",
        archived,
    )
    return [Plan(**row) for row in rows]


async def find_plan(connection: Connection, handle: str) -> Plan:
    """Return a plan by its handle.

    Raises
    ------
    NotFoundError
        If there is none, naming those there are.
    """
    row = await connection.fetchrow(f"SELECT {_PLAN} FROM plans WHERE handle = $1", handle)
    if row is None:
        known = await connection.fetchval("SELECT string_agg(handle, ', ' ORDER BY position, handle) FROM plans")
        raise NotFoundError(f"there is no plan {handle!r} (known: {known})")
    return Plan(**row)


async def plan_of_shop(connection: Connection, shop_id: int) -> Plan:
    """Return the plan that holds for a shop: the default one, where nobody gave it another."""
    row = await connection.fetchrow(
        f"""
        SELECT {_PLAN} FROM plans
        WHERE handle = COALESCE((SELECT plan FROM ({_IN_EFFECT}) a), (SELECT handle FROM plans WHERE is_default))
        """,
        shop_id,
    )
    assert row is not None, "there is a default plan: the migration makes it, and none may be left without"
    return Plan(**row)


async def assignment_in_effect(connection: Connection, shop_id: int) -> Assignment | None:
    """Return what holds for a shop; None where nobody ever said anything."""
    return _assignment(await connection.fetchrow(f"SELECT {_ASSIGNMENT} FROM ({_IN_EFFECT}) a", shop_id))


async def last_assignment(connection: Connection, shop_id: int) -> Assignment | None:
    """Return what was said last, in effect or not yet."""
    row = await connection.fetchrow(
        f"SELECT {_ASSIGNMENT} FROM shop_plans WHERE shop_id = $1 ORDER BY assignment_id DESC LIMIT 1", shop_id
    )
    return _assignment(row)


async def history(connection: Connection, shop_id: int, *, limit: int = 50) -> list[Assignment]:
    """Return what was said of a shop's plan, the newest first."""
    rows = await connection.fetch(
        f"SELECT {_ASSIGNMENT} FROM shop_plans WHERE shop_id = $1 ORDER BY assignment_id DESC LIMIT $2", shop_id, limit
    )
    return [each for row in rows if (each := _assignment(row))]


def _assignment(row: asyncpg.Record | None) -> Assignment | None:
    return None if row is None else Assignment(**{**row, "source": Source(row["source"])})


async def lock_assignments(connection: Connection, shop_id: int) -> None:
    """Let nobody else say anything of a shop's plan until the transaction ends."""
    await connection.execute("SELECT pg_advisory_xact_lock(hashtext('sellflow.shop_plans'), hashint8($1))", shop_id)


async def assign(connection: Connection, shop_id: int, said: Assignment) -> None:
    """Write down what is said of a shop's plan, in the caller's transaction; the owner's."""
    await connection.execute(
        f"INSERT INTO shop_plans (shop_id, {_ASSIGNMENT}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        shop_id,
        said.plan,
        said.source.value,
        said.set_by,
        said.subscription_id,
        said.reason,
        said.effective_at,
        said.trial_ends_at,
    )


async def set_by_operator(connection: SessionConnection, shop_id: int, handle: str, *, by: str) -> Plan:
    """Give a shop a plan that holds whatever Shopify says, until it is released.

    Raises
    ------
    NotFoundError
        If there is no such plan.
    ConfigurationError
        If it is archived.
    """
    plan = await find_plan(connection, handle)
    if plan.archived_at is not None:
        raise ConfigurationError(f"the plan {handle!r} is archived: `sellflow plans apply` brings it back")
    async with connection.transaction():
        await lock_assignments(connection, shop_id)
        now = await clock(connection)
        await assign(connection, shop_id, Assignment(plan=handle, source=Source.OPERATOR, set_by=by, effective_at=now))
    return plan


async def release(connection: SessionConnection, shop_id: int, *, by: str) -> bool:
    """Take an operator's word back: the default plan holds until billing says otherwise. False where there is none."""
    async with connection.transaction():
        await lock_assignments(connection, shop_id)
        last = await last_assignment(connection, shop_id)
        if last is None or last.source is not Source.OPERATOR:
            return False
        default = await connection.fetchval("SELECT handle FROM plans WHERE is_default")
        now = await clock(connection)
        await assign(connection, shop_id, Assignment(plan=default, source=Source.RELEASED, set_by=by, effective_at=now))
    return True


async def clock(connection: Connection) -> datetime:
    """Return the time that the database has."""
    now: datetime = await connection.fetchval("SELECT clock_timestamp()")
    return now


async def put_plan(connection: SessionConnection, handle: str, values: dict[str, Any]) -> None:
    """Add a plan, or change one and bring it back where it was archived, in the caller's transaction.

    Raises
    ------
    ConfigurationError
        If a value is refused.
    """
    names = list(values)
    columns = ", ".join(["handle", *names])
    places = ", ".join(f"${number}" for number in range(1, len(names) + 2))
    changes = ", ".join([*(f"{name} = EXCLUDED.{name}" for name in names), "archived_at = NULL"])
    if values.get("is_default"):
        await connection.execute("UPDATE plans SET is_default = false WHERE is_default AND handle <> $1", handle)
    try:
        await connection.execute(
            f"INSERT INTO plans ({columns}) VALUES ({places}) ON CONFLICT (handle) DO UPDATE SET {changes}",
            handle,
            *values.values(),
        )
    except asyncpg.UniqueViolationError as error:
        raise ConfigurationError(f"the plan {handle!r} was refused: another one has its name") from error
    except asyncpg.CheckViolationError as error:
        raise ConfigurationError(
            f"the plan {handle!r} was refused ({error.constraint_name}): price, currency and billing_interval go "
            "together, the default plan costs nothing, and a handle is lower-case letters, digits and hyphens"
        ) from error
    await connection.execute(
        "UPDATE plan_offers SET closed_at = clock_timestamp() WHERE plan = $1 AND closed_at IS NULL", handle
    )


async def archive_plan(connection: SessionConnection, handle: str) -> int:
    """Offer a plan no more; return how many shops have it and keep it.

    Raises
    ------
    NotFoundError
        If there is no such plan.
    ConfigurationError
        If it is the default one.
    """
    plan = await find_plan(connection, handle)
    if plan.is_default:
        raise ConfigurationError(f"{handle!r} is the default plan: make another one the default first")
    async with connection.transaction():
        await connection.execute(
            "UPDATE plans SET archived_at = COALESCE(archived_at, clock_timestamp()) WHERE handle = $1", handle
        )
        await connection.execute(
            "UPDATE plan_offers SET closed_at = clock_timestamp() WHERE plan = $1 AND closed_at IS NULL", handle
        )
    return (await count_shops(connection)).get(handle, 0)


async def count_shops(connection: SessionConnection) -> dict[str, int]:
    """Return how many installed shops have each plan."""
    rows = await connection.fetch(
        """
        SELECT COALESCE(a.plan, (SELECT handle FROM plans WHERE is_default)) AS plan, count(*) AS shops
        FROM shops s LEFT JOIN LATERAL (
            SELECT plan FROM shop_plans p WHERE p.shop_id = s.shop_id AND p.effective_at <= clock_timestamp()
            ORDER BY p.assignment_id DESC LIMIT 1
        ) a ON true
        WHERE s.uninstalled_at IS NULL GROUP BY 1
        """
    )
    return {row["plan"]: row["shops"] for row in rows}


async def plans_with(connection: Connection, feature: str) -> Sequence[str]:
    """Return the names of the plans on offer that open a feature."""
    return [plan.name for plan in await list_plans(connection, archived=False) if plan.has(feature)]
