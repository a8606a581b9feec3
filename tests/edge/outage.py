"""A database that can be taken away: a relay between its socket and whoever connects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

from sellflow.postgres.database import Database


class Relay:
    """Passes bytes between its own socket and Postgres's, until it is cut."""

    def __init__(self, target: Path, folder: Path) -> None:
        self._target = target
        self._path = folder / target.name
        self._server: asyncio.Server | None = None
        self._links: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        #: Set while bytes pass; clear it and the database hangs.
        self.passing = asyncio.Event()
        self.passing.set()

    async def mend(self) -> None:
        """Listen, so that connections succeed."""
        self._server = await asyncio.start_unix_server(self._link, self._path)

    async def cut(self) -> None:
        """Refuse new connections and break the open ones."""
        self.passing.set()
        if self._server is None:
            return
        self._server.close()
        self._path.unlink(missing_ok=True)
        self._server = None
        for writer in self._writers:
            writer.transport.abort()
        if self._links:
            await asyncio.wait(self._links)

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        task.add_done_callback(self._links.discard)
        self._writers.add(writer)
        there_reader, there = await asyncio.open_unix_connection(self._target)
        self._writers.add(there)
        await asyncio.gather(self._pump(reader, there), self._pump(there_reader, writer))
        self._writers -= {writer, there}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(65536):
                await self.passing.wait()
                writer.write(chunk)
                await writer.drain()
        except OSError:
            pass  # the other side went first
        finally:
            writer.close()


@asynccontextmanager
async def relayed(database: Database, folder: Path) -> AsyncIterator[tuple[Database, Relay]]:
    """Yield a way to the same database that can be cut and mended."""
    address = urlsplit(database.session_url)
    options = parse_qs(address.query)
    port = options.get("port", ["5432"])[0]
    relay = Relay(Path(options["host"][0]) / f".s.PGSQL.{port}", folder)
    url = f"postgresql://{address.path}?host={quote(str(folder), safe='')}&port={port}"
    await relay.mend()
    try:
        yield replace(database, session_url=url, pooled_url=url), relay
    finally:
        await relay.cut()
