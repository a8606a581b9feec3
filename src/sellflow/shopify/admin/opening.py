"""Puts a client together: its tokens, the vault that opens them, and the endpoint that renews them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sellflow.postgres.database import Pool
from sellflow.postgres.transactions import Transactions, of_worker
from sellflow.secrets import build_vault
from sellflow.settings import Settings
from sellflow.shopify.admin.client import AdminClient
from sellflow.shopify.tokens import AccessTokens
from sellflow.shopify.tokens.endpoint import TokenEndpoint


@asynccontextmanager
async def admin_client(transactions: Transactions, settings: Settings) -> AsyncIterator[AdminClient]:
    """Yield a client for the login that `transactions` is of, for as long as the block runs."""
    client, tokens = _opened(transactions, settings)
    try:
        yield client
    finally:
        await client.close()
        await tokens.close()


def _opened(transactions: Transactions, settings: Settings) -> tuple[AdminClient, AccessTokens]:
    tokens = AccessTokens(transactions=transactions, vault=build_vault(settings), endpoint=TokenEndpoint())
    return AdminClient(transactions=transactions, tokens=tokens, settings=settings), tokens


class AdminClients:
    """The client of each worker's pool in this process, made when the first handler needs it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._opened: dict[Pool, tuple[AdminClient, AccessTokens]] = {}

    def of(self, pool: Pool) -> AdminClient:
        """Return the client that works through a pool."""
        if pool not in self._opened:
            self._opened[pool] = _opened(of_worker(pool), self._settings)
        return self._opened[pool][0]

    async def close(self) -> None:
        """Close the connections of every client."""
        for client, tokens in self._opened.values():
            await client.close()
            await tokens.close()
