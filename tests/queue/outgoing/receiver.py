"""Somebody's webhook endpoint on a loopback socket, as obedient or as broken as a test wants it."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from standardwebhooks import Webhook

PATIENCE = 20.0


@dataclass(frozen=True)
class Delivered:
    """A request as it arrived."""

    headers: dict[str, str]
    body: bytes

    @property
    def webhook_id(self) -> str:
        return self.headers["webhook-id"]

    def verified(self, secret: str) -> Any:  # noqa: ANN401 - any JSON
        """Return the body's JSON if `secret` signed it, by the standard's own library."""
        return Webhook(secret).verify(self.body, self.headers)

    @property
    def data(self) -> Any:  # noqa: ANN401
        return json.loads(self.body)["data"]


#: Writes an answer to a request, or does not.
Answering = Callable[[asyncio.StreamWriter, Delivered], Awaitable[None]]


def answer(status: int, body: bytes = b"", **headers: str) -> Answering:
    """Answer with this status."""

    async def write(writer: asyncio.StreamWriter, _: Delivered) -> None:
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        writer.write(f"HTTP/1.1 {status} So\r\n{lines}content-length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()

    return write


async def never(_writer: asyncio.StreamWriter, _: Delivered) -> None:
    """Say nothing at all."""
    await asyncio.Event().wait()


async def endless(writer: asyncio.StreamWriter, _: Delivered) -> None:
    """Begin an answer that has no end."""
    writer.write(b"HTTP/1.1 200 So\r\n\r\n")
    while True:
        writer.write(b"more and " * 1000)
        await writer.drain()


async def stalling(writer: asyncio.StreamWriter, _: Delivered) -> None:
    """Begin an answer, and never go on."""
    writer.write(b"HTTP/1.1 200 So\r\ncontent-length: 100\r\n\r\nwell,")
    await writer.drain()
    await asyncio.Event().wait()


async def rubbish(writer: asyncio.StreamWriter, _: Delivered) -> None:
    """Speak another protocol."""
    writer.write(b"220 mail.example ESMTP\r\n")
    await writer.drain()


class Receiver:
    """Notes every request and answers as `answering` does."""

    def __init__(self) -> None:
        self.url = ""
        self.port = 0
        self.connections = 0
        self.requests: list[Delivered] = []
        self.answering: Answering = answer(200)
        self._arrived = asyncio.Condition()
        self._open: set[asyncio.Task[None]] = set()

    async def wait_for(self, count: int) -> list[Delivered]:
        """Wait until `count` requests have arrived."""
        async with asyncio.timeout(PATIENCE), self._arrived:
            await self._arrived.wait_for(lambda: len(self.requests) >= count)
        return self.requests

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        self.connections += 1
        try:
            await self._serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._open.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[1:]
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head if line)}
        request = Delivered(headers, await reader.readexactly(int(headers["content-length"])))
        async with self._arrived:
            self.requests.append(request)
            self._arrived.notify_all()
        await self.answering(writer, request)

    async def close(self) -> None:
        for task in self._open:
            task.cancel()
        if self._open:
            await asyncio.wait(self._open)


@asynccontextmanager
async def receiving(tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    """Run a receiver on a free port of 127.0.0.1."""
    receiver = Receiver()
    server = await asyncio.start_server(receiver.accept, "127.0.0.1", 0, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    receiver.url = f"http{'s' if tls else ''}://127.0.0.1:{receiver.port}/hooks"
    try:
        yield receiver
    finally:
        server.close()
        await receiver.close()
