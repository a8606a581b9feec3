"""Background services of other teams: modules that the settings name, loaded and given their tables."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import asyncpg

from sellflow.errors import ConfigurationError, MigrationError
from sellflow.postgres.database import SessionConnection
from sellflow.postgres.personal_data import RoomData
from sellflow.queue.topics import Subscription
from sellflow.settings import Settings

SETTING = "SELLFLOW_SERVICES"


@dataclass(frozen=True)
class Service:
    """What a module declares: its `subscription`, and in `MIGRATIONS` the SQL that makes its tables, if it has any.

    `PERSONAL_DATA` says what those hold of customers, and how they are erased.
    """

    subscription: Subscription
    migrations: Sequence[str]
    personal_data: RoomData | None = None


def load_services(settings: Settings) -> list[Service]:
    """Import the services that the settings name.

    Raises
    ------
    ConfigurationError
        If a module cannot be imported or declares no subscription, naming the setting.
    """
    names = dict.fromkeys(name.strip() for name in settings.services.split(","))
    return [_load(name) for name in names if name]


def _load(name: str) -> Service:
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        raise ConfigurationError(
            f"{SETTING}: {name} cannot be imported ({error}). It has to be installed beside Sellflow, or its folder "
            "named in PYTHONPATH"
        ) from error
    subscription = getattr(module, "subscription", None)
    if not isinstance(subscription, Subscription):
        raise ConfigurationError(
            f"{SETTING}: {name} declares no service: it needs a line such as "
            f'subscription = Subscription("{name.rpartition(".")[2]}")'
        )
    migrations = getattr(module, "MIGRATIONS", ())
    if isinstance(migrations, str) or not all(isinstance(script, str) for script in migrations):
        raise ConfigurationError(f"{SETTING}: MIGRATIONS of {name} has to be a tuple of SQL scripts")
    personal_data = getattr(module, "PERSONAL_DATA", None)
    if personal_data is not None and not isinstance(personal_data, RoomData):
        raise ConfigurationError(
            f"{SETTING}: PERSONAL_DATA of {name} has to be a sellflow.postgres.personal_data.RoomData"
        )
    return Service(subscription, tuple(migrations), personal_data)


async def migrate_services(connection: SessionConnection, services: Sequence[Service], settings: Settings) -> None:
    """Run the scripts of services that did not run yet, as the owner: each once, in its own transaction.

    Raises
    ------
    MigrationError
        If a script fails, leaves a shop's data unprotected, or was changed after it ran. It is rolled back then.
    """
    for service in services:
        for number, script in enumerate(service.migrations, start=1):
            async with connection.transaction():
                # One migration at a time, however many processes start it.
                await connection.execute("SELECT pg_advisory_xact_lock(hashtext('sellflow.migrate'))")
                await _migrate(connection, service.subscription.queue, number, script, settings)


async def _migrate(connection: SessionConnection, queue: str, number: int, script: str, settings: Settings) -> None:
    digest = sha256(script.encode()).hexdigest()
    known = await connection.fetchval(
        "SELECT digest FROM service_migrations WHERE queue = $1 AND number = $2", queue, number
    )
    if known == digest:
        return
    if known:
        raise MigrationError(
            f"migration {number} of the service {queue} was changed after it had run: restore it, and put the change "
            "into another one behind it"
        )
    try:
        await _limit(connection, settings)
        await connection.execute(script)
    except asyncpg.PostgresError as error:
        raise MigrationError(
            f"migration {number} of the service {queue} failed and was rolled back: {error}"
        ) from error
    await _refuse_unprotected(connection, queue, number)
    await connection.execute(
        "INSERT INTO service_migrations (queue, number, digest) VALUES ($1, $2, $3)", queue, number, digest
    )


async def _limit(connection: SessionConnection, settings: Settings) -> None:
    """Limit lock waits and statements for the rest of the transaction, as those of our own migrations are."""
    await connection.execute(
        "SELECT set_config('lock_timeout', $1, true), set_config('statement_timeout', $2, true)",
        f"{settings.migration_lock_timeout * 1000:.0f}",
        f"{settings.migration_statement_timeout * 1000:.0f}",
    )


async def _refuse_unprotected(connection: SessionConnection, queue: str, number: int) -> None:
    """Refuse a table with a shop_id that row-level security does not keep from other shops."""
    unprotected = await connection.fetchval(
        """
        SELECT string_agg(c.oid::regclass::text, ', ')
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
        WHERE c.relkind IN ('r', 'p') AND NOT c.relforcerowsecurity AND a.attname = 'shop_id' AND NOT a.attisdropped
          AND c.relnamespace NOT IN ('pg_catalog'::regnamespace, 'pgmq'::regnamespace, 'public'::regnamespace)
        """
    )
    if unprotected:
        raise MigrationError(
            f"migration {number} of the service {queue} leaves {unprotected} open to every shop: "
            f"add CALL protect_tenant_table('{unprotected.partition(',')[0]}')"
        )
