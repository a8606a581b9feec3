"""The tokens of shops as callers see them: always one to use, whoever renews it.

A token is renewed ahead of its end, by the scheduler or by whoever uses it first. One process at a time asks Shopify
(see `leases`); others go on with the token there is while it lasts, and otherwise look again until the next is stored.
A process that dies between Shopify's answer and our commit leaves the refresh token it used: Shopify takes it again
until its replacement is used (docs/decisions/0015).
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

import structlog
from prometheus_client import Counter

from sellflow.postgres.database import Connection
from sellflow.postgres.transactions import Transactions
from sellflow.secrets import Vault
from sellflow.shopify.tokens import leases, rules, store
from sellflow.shopify.tokens.endpoint import TokenEndpoint
from sellflow.shopify.tokens.errors import (
    CredentialsRefusedError,
    GrantRefusedError,
    NotInstalledError,
    ReinstallNeededError,
    TokenDelayedError,
)
from sellflow.shopify.tokens.leases import TokenLease
from sellflow.shopify.tokens.models import Access, Client, Grant, Stored, TokenKind
from sellflow.shopify.tokens.sealing import PREVIOUS, REFRESH, TOKEN, open_token, put_renewed_grant

log = structlog.get_logger(__name__)

renewals_total = Counter("sellflow_token_renewals_total", "Renewals of access tokens by what came of them.", ["result"])

#: Seconds that a caller without a usable token waits for somebody else's renewal: a lease, and an own attempt.
PATIENCE = 55.0
#: Seconds between two looks at whether it has come.
FIRST_LOOK = 0.03
LONGEST_LOOK = 0.5


@dataclass(frozen=True, slots=True)
class _Want:
    """What a caller can use: a token that has so many seconds left, and is not the one that was refused."""

    seconds_left: float
    refused: str | None = field(default=None, repr=False)
    #: One that expires is wanted, although one that does not would do.
    expiring: bool = False

    def is_met(self, stored: Stored, token: str) -> bool:
        """Say whether a token is what was asked for."""
        if stored.seconds_left is None:
            return token != self.refused and not self.expiring
        return token != self.refused and stored.seconds_left > self.seconds_left

    def will_do(self, stored: Stored, token: str) -> bool:
        """Say whether a token can be used while a better one is not to be had."""
        return token != self.refused and rules.is_usable(stored.seconds_left)


@dataclass(frozen=True, slots=True)
class _Attempt:
    """What one renewal needs, read in the transaction that took its lease."""

    lease: TokenLease
    client: Client
    stored: Stored
    token: str = field(repr=False)
    refresh: str | None = field(repr=False)
    previous: str | None = field(repr=False)
    #: False where the token there is goes on working without it.
    is_needed: bool


class AccessTokens:
    """Gives out tokens for the Admin API, and renews them; works under the login that `transactions` is of."""

    def __init__(
        self, *, transactions: Transactions, vault: Vault, endpoint: TokenEndpoint, patience: float = PATIENCE
    ) -> None:
        self._transactions = transactions
        self._vault = vault
        self._endpoint = endpoint
        self._patience = patience
        self._turns: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()
        self._renewing: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Let renewals that are under way be stored, then close the connections."""
        while self._renewing:
            await asyncio.wait(self._renewing)
        await self._endpoint.close()

    async def get(self, shop_id: int) -> Access:
        """Return a token to call a shop's Admin API with.

        Raises
        ------
        NotInstalledError
            If the shop removed the app, or has no token yet.
        ReinstallNeededError
            If Shopify refuses every token we have; the shop's next opening of the app mends it.
        TokenDelayedError
            If the token has run out and Shopify gives no other just now.
        """
        want = _Want(rules.AHEAD * random.uniform(0.8, 1.2))  # noqa: S311 - spreads shops installed together
        async with self._transactions(shop_id) as connection:
            stored, token = await self._look(connection, shop_id)
        return _access(stored, token) if want.is_met(stored, token) else await self._renewed(shop_id, want)

    async def renew(self, shop_id: int, refused_token: str) -> Access:
        """Return another token than the one that Shopify answered 401 to; raises as `get` does."""
        return await self._renewed(shop_id, _Want(rules.LEAST, refused_token))

    async def renew_early(self, shop_id: int, *, early: float = rules.EARLY) -> None:
        """Renew a token that ends within `early` seconds; raises as `get` does."""
        await self._renewed(shop_id, _Want(early))

    async def migrate(self, shop_id: int) -> Access:
        """Exchange a token without expiry for a pair, for good; where Shopify refuses, the token there is stays.

        An answer that is lost is asked for again: Shopify gives the same pair for seven days. Raises as `get` does.
        """
        return await self._renewed(shop_id, _Want(rules.LEAST, expiring=True))

    async def _renewed(self, shop_id: int, want: _Want) -> Access:
        """Return a token that is wanted: by renewing it, or by waiting until somebody else has."""
        deadline = time.monotonic() + self._patience
        pause = FIRST_LOOK
        async with self._turns.setdefault(shop_id, asyncio.Lock()):
            while True:
                found = await self._begin(shop_id, want)
                if isinstance(found, Access):
                    return found
                if found is not None:
                    await self._finish(found)
                elif time.monotonic() > deadline:
                    raise TokenDelayedError("another process has been renewing the token for too long", seconds=pause)
                else:
                    await asyncio.sleep(pause * (0.5 + random.random()))  # noqa: S311 - jitter, not a secret
                    pause = min(pause * 1.5, LONGEST_LOOK)

    async def _begin(self, shop_id: int, want: _Want) -> Access | _Attempt | None:
        """Return the token if it will do, or what a renewal needs; None while somebody else is at it."""
        async with self._transactions(shop_id) as connection:
            stored, token = await self._look(connection, shop_id)
            if want.is_met(stored, token):
                return _access(stored, token)
            is_held_off = stored.retry_in > 0
            lease = None if is_held_off else await leases.take(connection, stored.app_id, stored.domain)
            if lease:
                return await self._under(lease, connection, shop_id, want)
            if want.will_do(stored, token):
                return _access(stored, token)
            if is_held_off:
                raise TokenDelayedError(stored.last_error, seconds=stored.retry_in)
            return None

    async def _under(self, lease: TokenLease, connection: Connection, shop_id: int, want: _Want) -> Access | _Attempt:
        """Return what a renewal needs, or the token that the last holder of the lease stored after our first look."""
        stored, token = await self._look(connection, shop_id)
        if want.is_met(stored, token):
            await leases.release(connection, lease)
            return _access(stored, token)
        return await self._attempt(connection, lease, stored, token, is_needed=not want.will_do(stored, token))

    async def _look(self, connection: Connection, shop_id: int) -> tuple[Stored, str]:
        stored = await store.find_token(connection, shop_id)
        if stored is None:
            domain = await store.domain_of(connection, shop_id) or f"shop {shop_id}"
            raise NotInstalledError(f"{domain} has removed the app, or not finished installing it")
        if stored.is_broken:
            raise ReinstallNeededError(
                f"{stored.domain}: {stored.last_error}. Somebody of the shop has to open the app in its admin"
            )
        return stored, await open_token(self._vault, connection, stored.sealed_token, shop_id, TOKEN)

    async def _attempt(
        self, connection: Connection, lease: TokenLease, stored: Stored, token: str, *, is_needed: bool
    ) -> _Attempt:
        client = await store.find_client(connection, self._vault, stored.shop_id)
        assert client is not None, "its token was just read"
        opened = {
            purpose: await open_token(self._vault, connection, sealed, stored.shop_id, purpose) if sealed else None
            for purpose, sealed in ((REFRESH, stored.sealed_refresh), (PREVIOUS, stored.sealed_previous))
        }
        return _Attempt(lease, client, stored, token, opened[REFRESH], opened[PREVIOUS], is_needed)

    async def _finish(self, attempt: _Attempt) -> None:
        """Make one attempt to its end, also when whoever waits for it is cancelled: its lease keeps others out."""
        task = asyncio.create_task(self._renew_once(attempt))
        self._renewing.add(task)
        task.add_done_callback(self._ended)
        await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._renewing.discard(task)
        # Whoever waited may be gone: an error is read here, or the loop would complain of it in its own words.
        if not task.cancelled() and (error := task.exception()):
            log.warning("shopify.renewal_not_stored", error=repr(error))

    async def _renew_once(self, attempt: _Attempt) -> None:
        try:
            grant, used = await self._ask(attempt)
        except CredentialsRefusedError as error:
            await self._note_failure(attempt, error)
        except GrantRefusedError as error:
            # An app's own credentials stay good: it may only not be installed yet, or not any more.
            is_lost = attempt.stored.kind is TokenKind.EXPIRING or (
                attempt.is_needed and attempt.stored.kind is TokenKind.PERMANENT
            )
            await (self._note_broken(attempt, error) if is_lost else self._note_failure(attempt, error))
        except TokenDelayedError as error:
            await self._note_failure(attempt, error)
        else:
            await self._store(attempt, grant, used)

    async def _ask(self, attempt: _Attempt) -> tuple[Grant, str | None]:
        """Return a new token and the refresh token that brought it."""
        if attempt.stored.kind is TokenKind.CLIENT_CREDENTIALS:
            return await self._endpoint.claim(attempt.client), None
        if attempt.refresh is None:
            # Refused, it was revoked, or it was exchanged already and the answer was lost: this tells which.
            return await self._endpoint.migrate(attempt.client, attempt.token), None
        try:
            return await self._endpoint.refresh(attempt.client, attempt.refresh), attempt.refresh
        except CredentialsRefusedError:
            raise
        except GrantRefusedError:
            if attempt.previous is None:
                raise
        log.warning("shopify.previous_refresh_token", shop=attempt.stored.domain, meaning="the last one is refused")
        return await self._endpoint.refresh(attempt.client, attempt.previous), attempt.previous

    async def _store(self, attempt: _Attempt, grant: Grant, used: str | None) -> None:
        shop_id = attempt.stored.shop_id
        async with self._transactions(shop_id) as connection:
            if not await leases.hold(connection, attempt.lease):
                # Somebody asked after us, and got what is valid now.
                renewals_total.labels("overtaken").inc()
                log.warning("shopify.renewal_overtaken", shop=attempt.stored.domain)
                return
            await put_renewed_grant(connection, self._vault, shop_id, grant, used_refresh_token=used)
            await leases.release(connection, attempt.lease)
        renewals_total.labels("renewed").inc()
        log.info("shopify.token_renewed", shop=attempt.stored.domain, seconds=grant.expires_in)

    async def _note_failure(self, attempt: _Attempt, error: GrantRefusedError | TokenDelayedError) -> None:
        asked = error.seconds if isinstance(error, TokenDelayedError) else 0.0
        retry_in = max(asked, rules.retry_after(attempt.stored.failures + 1))
        async with self._transactions(attempt.stored.shop_id) as connection:
            if await leases.hold(connection, attempt.lease):
                await store.note_failure(connection, attempt.stored.shop_id, error=str(error), retry_in=retry_in)
                await leases.release(connection, attempt.lease)
        renewals_total.labels("delayed").inc()
        log.warning("shopify.token_not_renewed", shop=attempt.stored.domain, error=str(error), retry_in=retry_in)

    async def _note_broken(self, attempt: _Attempt, error: GrantRefusedError) -> None:
        async with self._transactions(attempt.stored.shop_id) as connection:
            if await leases.hold(connection, attempt.lease):
                await store.note_broken(connection, attempt.stored.shop_id, error=str(error))
                await leases.release(connection, attempt.lease)
        renewals_total.labels("refused").inc()
        log.error("shopify.reinstall_needed", shop=attempt.stored.domain, code=error.code, error=str(error))


def _access(stored: Stored, token: str) -> Access:
    return Access(stored.shop_id, stored.domain, stored.base_url, token, stored.scopes)
