"""Connects a shop without its merchant: by the app's own credentials, or by a token that somebody has already."""

from __future__ import annotations

from sellflow.postgres.database import Connection, SessionConnection
from sellflow.secrets import Vault
from sellflow.settings import Settings
from sellflow.shopify.shop_currency import read_currency
from sellflow.shopify.tokens import Grant, TokenKind
from sellflow.shopify.tokens.endpoint import TokenEndpoint
from sellflow.shopify.tokens.sealing import put_grant
from sellflow.shops.install import client_of, wanted_scopes
from sellflow.shops.models import App, Shop
from sellflow.shops.store import install_shop


async def connect_shop(
    connection: SessionConnection, vault: Vault, settings: Settings, *, app: App, domain: str, token: str = ""
) -> Shop:
    """Store a token of a shop as the owner, and return the shop.

    Without a `token` the app's own credentials get one: Shopify gives it to apps in stores of their own organisation
    (https://shopify.dev/docs/apps/build/authentication-authorization/access-tokens/client-credentials-grant).

    Raises
    ------
    GrantRefusedError
        If Shopify refuses the app there.
    TokenDelayedError
        If Shopify gives no answer, or does not take the token.
    """
    client, endpoint = client_of(app, domain), TokenEndpoint()
    try:
        grant = (
            Grant(kind=TokenKind.PERMANENT, access_token=token, scopes=tuple(wanted_scopes(app, settings)))
            if token
            else await endpoint.claim(client)
        )
    finally:
        await endpoint.close()
    currency = await read_currency(
        domain=domain, base_url=client.base_url, token=grant.access_token, api_version=settings.shopify_api_version
    )
    async with connection.transaction():
        shop = await install_shop(connection, app_id=app.app_id, domain=domain, currency=currency)
        await put_grant(connection, vault, shop.shop_id, grant)
    return shop


async def expect_claimed_token(connection: Connection, vault: Vault, shop_id: int) -> None:
    """Let the first call of a shop's Admin API claim a token by the app's credentials, where the shop has none yet.

    For a shop whose Shopify does not run yet, as when a simulated one is about to be started.
    """
    if await connection.fetchval("SELECT true FROM access_tokens WHERE shop_id = $1", shop_id):
        return
    unclaimed = Grant(kind=TokenKind.CLIENT_CREDENTIALS, access_token="unclaimed", scopes=(), expires_in=0.0)  # noqa: S106
    await put_grant(connection, vault, shop_id, unclaimed)
