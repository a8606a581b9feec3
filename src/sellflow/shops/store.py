"""The SQL of apps and shops. The owner writes; web reads through its own login."""

from __future__ import annotations

from collections.abc import Sequence
from hmac import compare_digest

import asyncpg
import structlog

from sellflow.errors import ConfigurationError, NotFoundError
from sellflow.postgres.database import Connection, Pool, SessionConnection
from sellflow.secrets import Vault
from sellflow.secrets.errors import CannotOpenError, DataKeyMissingError
from sellflow.secrets.purposes import app_secret
from sellflow.secrets.unsealed import seal_all
from sellflow.shops.models import App, Shop

log = structlog.get_logger(__name__)

_APP = "app_id, handle, client_id, client_secret, previous_secret, shopify_url, scopes"
_SHOP = "shop_id, app_id, domain, currency, installed_at, uninstalled_at"


async def list_apps(connection: SessionConnection | Pool, vault: Vault) -> list[App]:
    """Return every app, with its secrets opened; one whose secrets were damaged stands in no other's way.

    Raises
    ------
    MasterKeyMissingError
        If this process has no access to the key that they need.
    """
    apps = []
    for row in await connection.fetch(f"SELECT {_APP} FROM apps ORDER BY handle"):
        try:
            apps.append(await _opened(connection, vault, row))
        except (CannotOpenError, DataKeyMissingError) as error:
            log.warning("apps.left_out", app=row["handle"], code=error.code, error=str(error))
    return apps


async def _sealed(connection: SessionConnection, vault: Vault, handle: str, secret: str) -> bytes:
    if not secret:
        raise ConfigurationError(f"the app {handle!r} was refused: neither client id nor secret may be empty")
    return await vault.seal(connection, secret, shop_id=None, purpose=app_secret(handle))


async def _opened(connection: SessionConnection | Pool, vault: Vault, row: asyncpg.Record) -> App:
    purpose, previous = app_secret(row["handle"]), row["previous_secret"]
    secrets = {
        "client_secret": await vault.open(connection, row["client_secret"], shop_id=None, purpose=purpose),
        "previous_secret": previous and await vault.open(connection, previous, shop_id=None, purpose=purpose),
    }
    return App(**{**row, **secrets})


async def add_app(
    connection: SessionConnection, vault: Vault, *, handle: str, client_id: str, client_secret: str
) -> App:
    """Add an app, or give a known one its client id; an existing secret is never replaced here.

    Raises
    ------
    ConfigurationError
        If the handle is malformed or the client id belongs to another app.
    """
    sealed = await _sealed(connection, vault, handle, client_secret)
    try:
        row = await connection.fetchrow(
            f"""
            INSERT INTO apps (handle, client_id, client_secret) VALUES ($1, $2, $3)
            ON CONFLICT (handle) DO UPDATE SET client_id = EXCLUDED.client_id
            RETURNING {_APP}
            """,
            handle,
            client_id,
            sealed,
        )
    except asyncpg.CheckViolationError as error:
        raise ConfigurationError(
            f"the app {handle!r} was refused: a handle is lower-case letters, digits and hyphens, "
            "and neither client id nor secret may be empty"
        ) from error
    except asyncpg.UniqueViolationError as error:
        raise ConfigurationError(f"the client id {client_id!r} belongs to another app") from error
    assert row is not None
    return await _opened(connection, vault, row)


async def rotate_secret(connection: SessionConnection, vault: Vault, handle: str, new_secret: str) -> None:
    """Make `new_secret` the current one; the one before it stays accepted until it is forgotten."""
    async with connection.transaction():
        # Locked, so that of two rotations at once the second finds the first one's secret.
        await connection.execute("SELECT FROM apps WHERE handle = $1 FOR UPDATE", handle)
        app = await find_app(connection, vault, handle)
        if compare_digest(app.client_secret.encode(), new_secret.encode()):
            return
        await connection.execute(
            "UPDATE apps SET previous_secret = client_secret, client_secret = $2 WHERE handle = $1",
            handle,
            await _sealed(connection, vault, handle, new_secret),
        )


async def forget_previous_secret(connection: SessionConnection, handle: str) -> None:
    """Stop accepting signatures by the previous secret."""
    status = await connection.execute("UPDATE apps SET previous_secret = NULL WHERE handle = $1", handle)
    if status == "UPDATE 0":
        raise await _no_app(connection, handle)


async def seal_app_secrets(connection: SessionConnection, vault: Vault) -> None:
    """Seal the secrets that an earlier version stored in the clear."""

    async def seal(handle: str, plain: str) -> None:
        sealed = await _sealed(connection, vault, handle, plain)
        await connection.execute("UPDATE apps SET client_secret = $2 WHERE handle = $1", handle, sealed)

    async def seal_previous(handle: str, plain: str) -> None:
        sealed = await _sealed(connection, vault, handle, plain)
        await connection.execute("UPDATE apps SET previous_secret = $2 WHERE handle = $1", handle, sealed)

    await seal_all(connection, "app", seal)
    await seal_all(connection, "previous_app", seal_previous)


async def find_app(connection: SessionConnection, vault: Vault, handle: str) -> App:
    """Return an app by its handle.

    Raises
    ------
    NotFoundError
        If there is none, naming those there are.
    """
    row = await connection.fetchrow(f"SELECT {_APP} FROM apps WHERE handle = $1", handle)
    if row is None:
        raise await _no_app(connection, handle)
    return await _opened(connection, vault, row)


async def _no_app(connection: SessionConnection, handle: str) -> NotFoundError:
    known = await connection.fetchval("SELECT string_agg(handle, ', ' ORDER BY handle) FROM apps")
    return NotFoundError(f"there is no app {handle!r} (known: {known or 'none yet'}); add it with `sellflow apps add`")


async def set_shopify_url(connection: SessionConnection, handle: str, shopify_url: str | None) -> None:
    """Say where an app's Shopify is, with {shop} for the domain; None is Shopify itself.

    Raises
    ------
    ConfigurationError
        If it is no such address.
    NotFoundError
        If there is no such app.
    """
    try:
        status = await connection.execute("UPDATE apps SET shopify_url = $2 WHERE handle = $1", handle, shopify_url)
    except asyncpg.CheckViolationError as error:
        raise ConfigurationError(
            f"{shopify_url!r} was refused: it looks like http://127.0.0.1:8081/shops/{{shop}}, without a last slash"
        ) from error
    if status == "UPDATE 0":
        raise await _no_app(connection, handle)


async def set_scopes(connection: SessionConnection, handle: str, scopes: Sequence[str] | None) -> None:
    """Say which access scopes an app asks merchants for; None are those of the settings.

    Raises
    ------
    NotFoundError
        If there is no such app.
    """
    status = await connection.execute("UPDATE apps SET scopes = $2 WHERE handle = $1", handle, scopes)
    if status == "UPDATE 0":
        raise await _no_app(connection, handle)


async def list_shops(connection: SessionConnection) -> list[Shop]:
    """Return every shop; the owner's view."""
    return [Shop(**row) for row in await connection.fetch(f"SELECT {_SHOP} FROM shops ORDER BY domain")]


async def install_shop(connection: SessionConnection, *, app_id: int, domain: str, currency: str) -> Shop:
    """Add a shop, or mark a known one as installed again.

    Raises
    ------
    ConfigurationError
        If the domain or the currency is malformed.
    """
    try:
        row = await connection.fetchrow(
            f"""
            INSERT INTO shops (app_id, domain, currency) VALUES ($1, $2, $3)
            ON CONFLICT (app_id, domain) DO UPDATE SET currency = EXCLUDED.currency, uninstalled_at = NULL
            RETURNING {_SHOP}
            """,
            app_id,
            domain.lower(),
            currency.upper(),
        )
    except asyncpg.CheckViolationError as error:
        raise ConfigurationError(
            f"the shop was refused: {domain!r} must look like name.myshopify.com and {currency!r} like USD"
        ) from error
    assert row is not None
    return Shop(**row)


async def find_shop(connection: SessionConnection, domain: str) -> Shop:
    """Return a shop by its domain; the owner's view.

    Raises
    ------
    NotFoundError
        If there is none, or several apps have it.
    """
    rows = await connection.fetch(f"SELECT {_SHOP} FROM shops WHERE domain = $1", domain.lower())
    if not rows:
        raise NotFoundError(f"there is no shop {domain!r}; `sellflow shops list` shows those there are")
    if len(rows) > 1:
        raise NotFoundError(f"{len(rows)} apps are installed in {domain!r}: this needs one")
    return Shop(**rows[0])


async def shop_ids(pool: Pool, app_id: int, domains: Sequence[str]) -> dict[str, int]:
    """Return the ids of those of `domains` that are known, by domain; all that the ingest login may learn."""
    rows = await pool.fetch("SELECT domain, shop_id FROM find_shops($1, $2)", app_id, list(domains))
    return {row["domain"]: row["shop_id"] for row in rows}


async def mark_uninstalled(connection: Connection, uninstalled: Sequence[int]) -> None:
    """Note that shops removed the app; what is stored of them stays until Shopify asks for its erasure."""
    await connection.execute(
        "UPDATE shops SET uninstalled_at = COALESCE(uninstalled_at, now()) WHERE shop_id = ANY ($1::bigint[])",
        list(uninstalled),
    )


async def domains_of(connection: Connection, of_shops: Sequence[int]) -> dict[int, str]:
    """Return the domains of shops by id."""
    rows = await connection.fetch(
        "SELECT shop_id, domain FROM shops WHERE shop_id = ANY ($1::bigint[])", list(of_shops)
    )
    return {row["shop_id"]: row["domain"] for row in rows}
