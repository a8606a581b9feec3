"""An unbroken stream of signed deliveries that, like Shopify, sends again whatever was not answered with 2xx."""

from __future__ import annotations

import asyncio
import hmac
import threading
from base64 import b64encode
from contextlib import suppress
from datetime import UTC, datetime

from benchmarks.deliveries import Delivery, render, webhook_id
from benchmarks.http1 import ProtocolError, parse_answer
from benchmarks.paid_orders import PaidOrders
from benchmarks.servers import HOST

#: Seconds after which Shopify gives up on an answer; here it sends again sooner than Shopify, to ask more.
PATIENCE = 5.0
RESEND_AFTER = 1.0
MOST_CONNECTIONS = 400
#: Every so many deliveries one is sent a second time although it was acknowledged.
DUPLICATE_EVERY = 50
RUN = 1


class Traffic:
    """Sends orders by number, `rate` a second, from a thread of its own; `acknowledged` are those answered with 2xx."""

    def __init__(self, orders: PaidOrders, *, secret: str, port: int, path: str, rate: float) -> None:
        self._orders = orders
        self._key = secret.encode()
        self._port = port
        self._path = path
        self._rate = rate
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self.sent = 0
        self.resent = 0
        self.acknowledged: set[int] = set()

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def finish(self, *, within: float) -> None:
        """Send no new delivery, and wait until every one is acknowledged or the time is up."""
        self._stopping.set()
        self._thread.join(within)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        room = asyncio.Semaphore(MOST_CONNECTIONS)
        async with asyncio.TaskGroup() as group:
            while not self._stopping.is_set():
                while self.sent < (loop.time() - started) * self._rate:
                    group.create_task(self._deliver(self.sent, room))
                    self.sent += 1
                await asyncio.sleep(0.5 / self._rate)
        for _, writer in self._idle:
            writer.close()

    async def _deliver(self, number: int, room: asyncio.Semaphore) -> None:
        """Send one delivery until it is acknowledged, some of them once more."""
        request = self._request(number)
        while True:
            async with room:
                status = await self._send(request)
            if 200 <= status < 300:
                break
            self.resent += 1
            await asyncio.sleep(RESEND_AFTER)
        self.acknowledged.add(number)
        if number % DUPLICATE_EVERY == 0:
            await self._send(request)

    def _request(self, number: int) -> bytes:
        body = self._orders.payload(number)
        signature = b64encode(hmac.digest(self._key, body, "sha256")).decode()
        delivery = Delivery(number, webhook_id(RUN, number), signature, body, b"")
        return b"".join(render(delivery, host=f"{HOST}:{self._port}", path=self._path, moment=datetime.now(UTC)))

    async def _send(self, request: bytes) -> int:
        """Return the status of the answer, or 0 where none came."""
        with suppress(OSError, EOFError, TimeoutError, ProtocolError):
            async with asyncio.timeout(PATIENCE):
                connection = self._idle.pop() if self._idle else await asyncio.open_connection(HOST, self._port)
                try:
                    status = await _ask(connection, request)
                except BaseException:
                    connection[1].close()
                    raise
                self._idle.append(connection)
                return status
        return 0


async def _ask(connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], request: bytes) -> int:
    """Send a request on an open connection and return the status of its answer."""
    reader, writer = connection
    writer.write(request)
    received = b""
    while (answer := parse_answer(received)) is None:
        piece = await reader.read(65536)
        if not piece:
            raise EOFError
        received += piece
    return answer.status
