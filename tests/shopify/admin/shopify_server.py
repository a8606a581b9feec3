"""A Shopify on a loopback socket: it keeps a bucket of points as Shopify does, and fails as it is told to."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

#: More than any test takes.
PATIENCE = 20.0


class Bucket:
    """Points that come back with time."""

    def __init__(self, *, maximum: float = 1000.0, rate: float = 100.0, level: float | None = None) -> None:
        self.maximum = maximum
        self.rate = rate
        self.used = 0.0
        self._level = maximum if level is None else level
        self._at = time.monotonic()

    @property
    def level(self) -> float:
        now = time.monotonic()
        self._level = min(self.maximum, self._level + self.rate * (now - self._at))
        self._at = now
        return self._level

    def spend(self, points: float) -> None:
        self._level = self.level - points
        self.used += points

    def drain(self) -> None:
        """Let somebody else spend all there is."""
        self._level = min(self.level, 0.0)

    @property
    def status(self) -> dict[str, float]:
        return {
            "maximumAvailable": self.maximum,
            "currentlyAvailable": int(self.level),
            "restoreRate": self.rate,
        }


@dataclass(frozen=True)
class Asked:
    """A request as it arrived."""

    path: str
    headers: dict[str, str]
    query: str
    variables: dict[str, Any]


Step = Callable[["Shopify", Asked, asyncio.StreamWriter], Awaitable[None]]


def http(writer: asyncio.StreamWriter, status: int, body: bytes, **headers: str) -> None:
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    writer.write(f"HTTP/1.1 {status} So\r\n{lines}content-length: {len(body)}\r\n\r\n".encode() + body)


def says(status: int, body: str = "", **headers: str) -> Step:
    """Answer with a status and a body."""

    async def step(_: Shopify, __: Asked, writer: asyncio.StreamWriter) -> None:
        http(writer, status, body.encode(), **headers)

    return step


def answers(data: dict[str, Any] | None, *errors: dict[str, Any], cost: float = 10) -> Step:
    """Answer with 200, spend the points unless it is throttled, and tell of the bucket."""

    async def step(server: Shopify, _: Asked, writer: asyncio.StreamWriter) -> None:
        throttled = any(each.get("extensions", {}).get("code") == "THROTTLED" for each in errors)
        if not throttled:
            server.bucket.spend(cost)
        http(writer, 200, json.dumps(server.envelope(data, list(errors), cost, None if throttled else cost)).encode())

    return step


def error(code: str, message: str = "no") -> dict[str, Any]:
    return {"message": message, "extensions": {"code": code}}


async def drops(_: Shopify, __: Asked, writer: asyncio.StreamWriter) -> None:
    """Close the connection without a word."""
    writer.close()


async def stalls(_: Shopify, __: Asked, ___: asyncio.StreamWriter) -> None:
    """Never answer."""
    await asyncio.Event().wait()


@dataclass
class Shopify:
    """Notes every request, follows its script, and then answers `data` as long as there are points."""

    bucket: Bucket = field(default_factory=Bucket)
    data: dict[str, Any] = field(default_factory=dict)
    requested: float = 10.0
    actual: float = 10.0
    latency: float = 0.0
    script: deque[Step] = field(default_factory=deque)
    asked: list[Asked] = field(default_factory=list)
    throttled: int = 0
    url: str = ""
    token: str = ""
    at_once: int = 0
    most_at_once: int = 0
    _open: set[asyncio.Task[None]] = field(default_factory=set)
    _arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    def envelope(
        self, data: dict[str, Any] | None, errors: list[dict[str, Any]], requested: float, actual: float | None
    ) -> dict[str, Any]:
        cost = {"requestedQueryCost": requested, "actualQueryCost": actual, "throttleStatus": self.bucket.status}
        found: dict[str, Any] = {"extensions": {"cost": cost}}
        if data is not None:
            found["data"] = data
        if errors:
            found["errors"] = errors
        return found

    async def wait_for(self, count: int) -> list[Asked]:
        """Wait until so many requests have arrived."""
        async with asyncio.timeout(PATIENCE), self._arrived:
            await self._arrived.wait_for(lambda: len(self.asked) >= count)
        return self.asked

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            while not writer.is_closing():
                await self._serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._open.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, *head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head if line)}
        body = json.loads(await reader.readexactly(int(headers.get("content-length", "0"))) or b"{}")
        asked = Asked(first.split(" ")[1], headers, body.get("query", ""), body.get("variables", {}))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self._answer(asked, writer)
        finally:
            self.at_once -= 1
        if not writer.is_closing():
            await writer.drain()

    async def _answer(self, asked: Asked, writer: asyncio.StreamWriter) -> None:
        step = self.script.popleft() if self.script else None
        if step is None and self.bucket.level >= self.requested:
            self.bucket.spend(self.requested)  # when it arrives, not when it is answered
        elif step is None:
            self.throttled += 1
            step = answers(None, error("THROTTLED"), cost=self.requested)
        async with self._arrived:
            self.asked.append(asked)
            self._arrived.notify_all()
        if self.latency:
            await asyncio.sleep(self.latency)
        if step is not None:
            await step(self, asked, writer)
            return
        self.bucket.spend(self.actual - self.requested)
        http(writer, 200, json.dumps(self.envelope(self.data, [], self.requested, self.actual)).encode())

    async def close(self) -> None:
        for task in self._open:
            task.cancel()
        if self._open:
            await asyncio.wait(self._open)


@asynccontextmanager
async def shopify_serving() -> AsyncIterator[Shopify]:
    """Run one on a free port of 127.0.0.1."""
    shopify = Shopify()
    server = await asyncio.start_server(shopify.accept, "127.0.0.1", 0)
    shopify.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield shopify
    finally:
        server.close()
        await shopify.close()
