"""Installs an app in a shop: a token is exchanged for what proves that Shopify has it installed, and stored.

Managed installation is the usual way: Shopify asks the merchant for the scopes of `shopify.app.toml`, opens the app,
and the session token of that first look is exchanged. The authorization code grant is for apps that are not embedded.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence

import structlog

from sellflow.postgres.database import Pool
from sellflow.postgres.transactions import shop_transaction
from sellflow.secrets import Vault
from sellflow.settings import Settings
from sellflow.shopify.domains import base_url_of
from sellflow.shopify.shop_currency import read_currency
from sellflow.shopify.tokens import Grant, TokenDelayedError, TokenKind, leases
from sellflow.shopify.tokens.endpoint import TokenEndpoint
from sellflow.shopify.tokens.leases import TokenLease
from sellflow.shopify.tokens.models import Client
from sellflow.shopify.tokens.rules import missing_scopes
from sellflow.shopify.tokens.sealing import put_grant
from sellflow.shops.installation_store import find_installation, install
from sellflow.shops.models import App, Installation

log = structlog.get_logger(__name__)

#: A token that lacks scopes is exchanged for another at most this often, in seconds: the merchant may not have
#: granted them, and then the next has no more.
SCOPES_EVERY = 3600.0
#: Seconds that a request waits for another that is installing the same shop, and between two looks.
PATIENCE = 20.0
FIRST_LOOK = 0.05
LONGEST_LOOK = 0.5

#: Asks Shopify for the tokens of a shop.
_Ask = Callable[[Client], Awaitable[Grant]]
#: Says whether what is there will do.
_WillDo = Callable[[Installation], bool]


class Installer:
    """Installs apps under the login web."""

    def __init__(self, *, pool: Pool, vault: Vault, endpoint: TokenEndpoint, settings: Settings) -> None:
        self._pool = pool
        self._vault = vault
        self._endpoint = endpoint
        self._settings = settings
        self._under_way: set[asyncio.Task[int]] = set()

    async def close(self) -> None:
        """Let what is under way be stored, then close the connections."""
        while self._under_way:
            await asyncio.wait(self._under_way)
        await self._endpoint.close()

    def wanted_scopes(self, app: App) -> Sequence[str]:
        """Return the access scopes that an app asks merchants for."""
        return wanted_scopes(app, self._settings)

    async def install_from_session_token(self, app: App, domain: str, session_token: str) -> int:
        """Return the id of the shop that a verified session token is of; one look at the database in the usual case.

        Installs the app where it is not yet, or not any more; gives it another token where the one it has does not
        expire, lacks scopes or is refused.

        Raises
        ------
        CredentialsRefusedError
            If Shopify does not know the app by its client id and secret.
        GrantRefusedError
            If Shopify refuses the session token.
        TokenDelayedError
            If Shopify gives no answer just now; the next request tries again.
        """
        found = await find_installation(self._pool, app.app_id, domain)
        if found and self._is_current(app, found):
            return found.shop_id
        return await self._obtain(
            app,
            domain,
            lambda client: self._endpoint.exchange(client, session_token),
            lambda now: self._is_current(app, now),
        )

    async def install_from_code(self, app: App, domain: str, code: str) -> int:
        """Return the id of the shop that an authorization code is of; raises as the other way does.

        A code is good once, and brings a token that ends the one before: what is there already never will do.
        """
        return await self._obtain(app, domain, lambda client: self._endpoint.redeem(client, code), lambda _: False)

    def _is_current(self, app: App, found: Installation) -> bool:
        if found.is_uninstalled or found.is_broken or found.kind in (None, TokenKind.PERMANENT):
            return False
        lacks = missing_scopes(self.wanted_scopes(app), found.scopes or ())
        return not lacks or (found.granted_ago or 0.0) < SCOPES_EVERY

    async def _obtain(self, app: App, domain: str, ask: _Ask, will_do: _WillDo) -> int:
        """Obtain tokens to the end, also when the browser that asked is gone: an answer that is lost ends the pair."""
        task = asyncio.create_task(self._obtain_alone(app, domain, ask, will_do))
        self._under_way.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[int]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waits has it; where nobody does, the loop must not complain of it

    async def _obtain_alone(self, app: App, domain: str, ask: _Ask, will_do: _WillDo) -> int:
        lease = await self._lease_or_shop(app, domain, will_do)
        if isinstance(lease, int):
            return lease
        try:
            return await self._ask_and_store(app, domain, ask, lease)
        finally:
            await self._release(lease)

    async def _lease_or_shop(self, app: App, domain: str, will_do: _WillDo) -> TokenLease | int:
        """Return the lease to ask Shopify under, or the shop, where another request has installed it meanwhile.

        Many come at once: a page that loads for the first time asks for several things.
        """
        deadline, pause = time.monotonic() + PATIENCE, FIRST_LOOK
        while True:
            async with self._pool.acquire() as connection:
                lease = await leases.take(connection, app.app_id, domain)
            found = await find_installation(self._pool, app.app_id, domain)
            if found and will_do(found):
                if lease:
                    await self._release(lease)
                return found.shop_id
            if lease:
                return lease
            if time.monotonic() > deadline:
                raise TokenDelayedError(f"{domain} is being installed by another request for too long", seconds=pause)
            await asyncio.sleep(pause * (0.5 + random.random()))  # noqa: S311 - jitter, not a secret
            pause = min(pause * 1.5, LONGEST_LOOK)

    async def _ask_and_store(self, app: App, domain: str, ask: _Ask, lease: TokenLease) -> int:
        client = client_of(app, domain)
        grant = await ask(client)
        known = await find_installation(self._pool, app.app_id, domain)
        currency = known.currency if known else await self._currency(client, grant)
        shop_id = await install(self._pool, app.app_id, domain, currency)
        async with shop_transaction(self._pool, shop_id) as connection:
            if await leases.hold(connection, lease):
                await put_grant(connection, self._vault, shop_id, grant)
        log.info("shops.installed", app=app.handle, shop=domain, is_new=known is None, scopes=len(grant.scopes))
        return shop_id

    async def _currency(self, client: Client, grant: Grant) -> str:
        return await read_currency(
            domain=client.domain,
            base_url=client.base_url,
            token=grant.access_token,
            api_version=self._settings.shopify_api_version,
        )

    async def _release(self, lease: TokenLease) -> None:
        async with self._pool.acquire() as connection:
            await leases.release(connection, lease)


def wanted_scopes(app: App, settings: Settings) -> Sequence[str]:
    """Return the access scopes that an app asks merchants for."""
    return settings.shopify_scopes.split(",") if app.scopes is None else app.scopes


def client_of(app: App, domain: str) -> Client:
    """Return an app as the token endpoint of a shop knows it."""
    return Client(app.app_id, domain, base_url_of(domain, app.shopify_url), app.client_id, app.client_secret)
