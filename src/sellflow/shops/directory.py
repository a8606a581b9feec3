"""Which apps there are, kept in memory for whatever verifies signatures: webhooks, session tokens."""

from __future__ import annotations

import asyncio
import time

import structlog

from sellflow.errors import DatabaseUnavailableError
from sellflow.postgres.database import UNAVAILABLE, Pool
from sellflow.secrets import Vault
from sellflow.secrets.errors import SecretsError
from sellflow.shops.models import App
from sellflow.shops.store import list_apps

log = structlog.get_logger(__name__)

MAX_AGE = 10.0  # a revoked secret is refused after this many seconds at the latest
MIN_AGE = 1.0  # rubbish signatures cause at most one look a second
LONGEST_LOOK = 1.0  # a database that hangs holds up no delivery for longer: its sender gives up after 5


class AppDirectory:
    """The apps by handle, at most `MAX_AGE` seconds old while the database answers."""

    def __init__(self, pool: Pool, vault: Vault) -> None:
        self._pool = pool
        self._vault = vault
        self._apps: dict[str, App] | None = None
        self._loaded_at = 0.0
        self._loading: asyncio.Task[None] | None = None

    def look(self, handle: str) -> App | None:
        """Return the app if it is known and fresh, without waiting: the usual case."""
        if self._apps is None or self._age() > MAX_AGE:
            return None
        return self._apps.get(handle)

    async def find(self, handle: str) -> App | None:
        """Return the app, or None where there is none by that handle.

        Raises
        ------
        DatabaseUnavailableError
            If the apps could not be read even once.
        """
        if self._apps is None or self._age() > MAX_AGE:
            await self._load()
        assert self._apps is not None
        return self._apps.get(handle)

    async def find_client(self, client_id: str) -> App | None:
        """Return the app with a client id, or None where there is none.

        Raises
        ------
        DatabaseUnavailableError
            If the apps could not be read even once.
        """
        if self._apps is None or self._age() > MAX_AGE:
            await self._load()
        assert self._apps is not None
        return next((app for app in self._apps.values() if app.client_id == client_id), None)

    async def find_again(self, handle: str, before: App | None) -> App | None:
        """Look again, for an app that was unknown or whose secret may just have been rotated.

        Returns None when nothing changed since `before`.
        """
        if self._age() > MIN_AGE:
            await self._load()
        after = (self._apps or {}).get(handle)
        return after if after != before else None

    def _age(self) -> float:
        return time.monotonic() - self._loaded_at

    async def _load(self) -> None:
        """Read the apps, all who ask at once together; what is not there in time is left to arrive later.

        The reading goes on by itself: the driver gives up a query on a hanging connection only with that connection.
        """
        if self._loading is None or self._loading.done():
            self._loading = asyncio.create_task(self._read())
        await asyncio.wait([self._loading], timeout=LONGEST_LOOK)
        if self._loading.done():
            self._loading.result()
        else:
            self._look_again_soon()
        if self._apps is None:
            raise DatabaseUnavailableError("the apps could not be read")

    async def _read(self) -> None:
        try:
            self._apps = {app.handle: app for app in await list_apps(self._pool, self._vault)}
            self._loaded_at = time.monotonic()
        except (*UNAVAILABLE, SecretsError) as error:
            self._look_again_soon()
            log.warning("apps.not_refreshed", error=str(error))

    def _look_again_soon(self) -> None:
        """Keep going with what is known, as old secrets beat lost orders, and look again in a second."""
        self._loaded_at = time.monotonic() - MAX_AGE + MIN_AGE
