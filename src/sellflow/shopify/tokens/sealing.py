"""Tokens on their way into the database and out of it: nothing but sealed ones are stored."""

from __future__ import annotations

from sellflow.postgres.database import Connection
from sellflow.secrets import Vault
from sellflow.shopify.tokens import store
from sellflow.shopify.tokens.models import Grant

TOKEN = "shopify.access_token"  # noqa: S105 - what a sealed value is for, no token
REFRESH = "shopify.refresh_token"
PREVIOUS = "shopify.previous_refresh_token"


async def open_token(vault: Vault, connection: Connection, sealed: bytes, shop_id: int, purpose: str) -> str:
    """Return a token as it was before it was sealed."""
    return await vault.open(connection, sealed, shop_id=shop_id, purpose=purpose)


async def put_grant(connection: Connection, vault: Vault, shop_id: int, grant: Grant) -> None:
    """Store what a merchant granted, in place of whatever was there."""
    refresh = grant.refresh_token
    await store.put_grant(
        connection,
        shop_id,
        kind=grant.kind,
        access_token=await vault.seal(connection, grant.access_token, shop_id=shop_id, purpose=TOKEN),
        expires_in=grant.expires_in,
        refresh_token=await vault.seal(connection, refresh, shop_id=shop_id, purpose=REFRESH) if refresh else None,
        refresh_expires_in=grant.refresh_expires_in,
        scopes=grant.scopes,
    )


async def put_renewed_grant(
    connection: Connection, vault: Vault, shop_id: int, grant: Grant, *, used_refresh_token: str | None
) -> bool:
    """Store a renewed pair, and the refresh token that brought it; False where the shop removed the app meanwhile."""
    refresh, used = grant.refresh_token, used_refresh_token
    return await store.put_renewed(
        connection,
        shop_id,
        kind=grant.kind,
        access_token=await vault.seal(connection, grant.access_token, shop_id=shop_id, purpose=TOKEN),
        expires_in=grant.expires_in,
        refresh_token=await vault.seal(connection, refresh, shop_id=shop_id, purpose=REFRESH) if refresh else None,
        refresh_expires_in=grant.refresh_expires_in,
        used_refresh_token=await vault.seal(connection, used, shop_id=shop_id, purpose=PREVIOUS) if used else None,
        scopes=grant.scopes,
    )
