"""Which apps there are, kept in memory for the ingest endpoint."""

from __future__ import annotations

import asyncio
import time

import structlog

from sellflow.errors import DatabaseUnavailableError
from sellflow.postgres.database import UNAVAILABLE, Pool
from sellflow.shops.models import App
from sellflow.shops.store import list_apps

log = structlog.get_logger(__name__)

MAX_AGE = 10.0  # a revoked secret is refused after this many seconds at the latest
MIN_AGE = 1.0  # rubbish signatures cause at most one look a second


class AppDirectory:
    """The apps by handle, at most `MAX_AGE` seconds old while the database answers."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._apps: dict[str, App] | None = None
        self._loaded_at = 0.0
        self._loading = asyncio.Lock()

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
        seen = self._loaded_at
        async with self._loading:
            if self._loaded_at != seen:
                return  # somebody else loaded them while we waited
            try:
                self._apps = {app.handle: app for app in await list_apps(self._pool)}
                self._loaded_at = time.monotonic()
            except UNAVAILABLE as error:
                if self._apps is None:
                    raise DatabaseUnavailableError(f"the apps could not be read: {error}") from error
                # Old secrets beat lost orders: keep going with what is known, and look again in a second.
                self._loaded_at = time.monotonic() - MAX_AGE + MIN_AGE
                log.warning("apps.not_refreshed", error=str(error))
