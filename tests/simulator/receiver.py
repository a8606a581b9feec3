"""An app's webhook endpoint on a loopback socket, as obedient or as broken as a test wants it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Request:
    headers: dict[str, str]
    body: bytes

    @property
    def webhook_id(self) -> str:
        return self.headers["x-shopify-webhook-id"]

    @property
    def topic(self) -> str:
        return self.headers["x-shopify-topic"]


class Receiver:
    """Notes every request and answers with `answer(request)`: a status, or None for never."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[Request] = []
        self.answer: Callable[[Request], int | None] = lambda _request: 200
        self.gate = asyncio.Event()
        self.gate.set()
        self.most_at_once = 0
        self._now = 0
        self._arrived = asyncio.Condition()
        self._connections: set[asyncio.Task[None]] = set()

    async def wait_for(self, count: int) -> list[Request]:
        """Wait until `count` requests have arrived."""
        async with asyncio.timeout(20), self._arrived:
            await self._arrived.wait_for(lambda: len(self.requests) >= count)
        return self.requests

    def topics(self) -> list[str]:
        return [request.topic for request in self.requests]

    async def close(self) -> None:
        self.gate.set()
        for task in self._connections:
            task.cancel()
        if self._connections:
            await asyncio.wait(self._connections)

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            while await self._serve(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._connections.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[1:]
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head if line)}
        request = Request(headers, await reader.readexactly(int(headers["content-length"])))
        await self._note(request)
        await self.gate.wait()
        self._now -= 1
        status = self.answer(request)
        if status is None:
            await asyncio.Event().wait()
        writer.write(f"HTTP/1.1 {status} Whatever\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n".encode())
        await writer.drain()
        return True

    async def _note(self, request: Request) -> None:
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        async with self._arrived:
            self.requests.append(request)
            self._arrived.notify_all()


@asynccontextmanager
async def listening() -> AsyncIterator[Receiver]:
    """Run a receiver on a free port."""
    receiver = Receiver()
    server = await asyncio.start_server(receiver.accept, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    receiver.url = f"http://{host}:{port}/webhooks"
    try:
        yield receiver
    finally:
        server.close()
        await receiver.close()
