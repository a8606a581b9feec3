"""The closed-loop HTTP/1.1 client: N connections, each sending its next request when the last is answered.

It is as cheap as Python can be, so that on a small machine the server stays the bottleneck: requests are
rendered and signed beforehand, and of an answer only status and length are read.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter, process_time
from typing import cast

from benchmarks.figures import percentile
from benchmarks.http1 import ProtocolError, parse_answer

#: Seconds that requests in flight get to be answered after the last one was sent.
PATIENCE = 10.0
MOST_RECONNECTS = 1000


@dataclass(frozen=True)
class LoadResult:
    """What came back: `sent` and `accepted` (2xx) of the whole run, the rest of the measured window alone."""

    sent: int
    accepted: int
    requests: int
    statuses: dict[str, int]
    connection_errors: int
    seconds: float
    rps: float
    p50_ms: float
    p99_ms: float
    exhausted: bool
    client_cpu_percent: float


class Load:
    """One run: hands requests to connections and keeps the books."""

    def __init__(self, parts: Sequence[tuple[bytes, bytes]], *, warm_up: float, seconds: float) -> None:
        self._parts = parts
        self._warm_up = warm_up
        self._seconds = seconds
        self._next = 0
        self._open = 0
        self._measuring = False
        self._started = self._ended = 0.0
        self._cpu_started = self._cpu_ended = 0.0
        self._latencies: list[float] = []
        self._statuses: Counter[int] = Counter()
        self._failure: Exception | None = None
        self._finished = asyncio.Event()
        self.is_over = False
        self.exhausted = False
        self.connection_errors = 0
        self.acknowledged: list[int] = []

    async def run(self, host: str, port: int, connections: int) -> LoadResult:
        """Open the connections, measure, wait for what is in flight, and return the figures."""
        loop = asyncio.get_running_loop()
        timers = [loop.call_later(self._warm_up + self._seconds, self.finish)]
        if self._warm_up:
            timers.append(loop.call_later(self._warm_up, self._begin))
        else:
            self._begin()
        try:
            await asyncio.gather(*(self._connect(host, port) for _ in range(connections)))
            deadline = self._warm_up + self._seconds + PATIENCE
            await asyncio.wait_for(self._finished.wait(), deadline)
        except TimeoutError:
            self.connection_errors += self._open
        finally:
            for timer in timers:
                timer.cancel()
        if self._failure is not None:
            raise self._failure
        return self._result()

    def take(self) -> tuple[int, tuple[bytes, bytes]] | None:
        """Return the next request and its position, or None when there is nothing more to send."""
        if self.is_over:
            return None
        position = self._next
        if position == len(self._parts):
            self.exhausted = True
            self.finish()
            return None
        self._next = position + 1
        return position, self._parts[position]

    def answered(self, position: int, status: int, latency: float) -> None:
        """Book an answer."""
        if 200 <= status < 300:
            self.acknowledged.append(position)
        if self._measuring:
            self._latencies.append(latency)
            self._statuses[status] += 1

    def fail(self, error: Exception) -> None:
        """End the run because the server speaks no HTTP that this client reads."""
        self._failure = error
        self.finish()

    def opened(self) -> None:
        """Book an open connection."""
        self._open += 1

    def closed(self, connection: Connection, *, was_waiting: bool) -> None:
        """Book a closed connection, and open another when the server closed it before the end."""
        self._open -= 1
        if was_waiting:
            self.connection_errors += 1
        if not self.is_over and self.connection_errors < MOST_RECONNECTS:
            connection.reconnection = asyncio.ensure_future(self._connect(*connection.peer))
        elif self._open == 0:
            self.finish()
            self._finished.set()

    def finish(self) -> None:
        """End the measured window; connections close after their last answer."""
        if self.is_over:
            return
        self.is_over = True
        self._measuring = False
        self._ended, self._cpu_ended = perf_counter(), process_time()
        if self._open == 0:
            self._finished.set()

    def _begin(self) -> None:
        if not self.is_over:
            self._measuring = True
            self._started, self._cpu_started = perf_counter(), process_time()

    async def _connect(self, host: str, port: int) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: Connection(self), host, port)
        except OSError as error:
            self.connection_errors += 1
            if self._open == 0:
                self.fail(error)

    def _result(self) -> LoadResult:
        seconds = self._ended - self._started if self._started else 0.0
        good = sum(count for status, count in self._statuses.items() if 200 <= status < 300)
        return LoadResult(
            sent=self._next,
            accepted=len(self.acknowledged),
            requests=len(self._latencies),
            statuses={str(status): count for status, count in sorted(self._statuses.items())},
            connection_errors=self.connection_errors,
            seconds=round(seconds, 4),
            rps=round(good / seconds, 1) if seconds else 0.0,
            p50_ms=_milliseconds(self._latencies, 0.50),
            p99_ms=_milliseconds(self._latencies, 0.99),
            exhausted=self.exhausted,
            client_cpu_percent=round(100 * (self._cpu_ended - self._cpu_started) / seconds, 1) if seconds else 0.0,
        )


class Connection(asyncio.Protocol):
    """One keep-alive connection."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._transport: asyncio.Transport | None = None
        self._unread = b""
        self._position = -1
        self._sent_at = 0.0
        self.peer: tuple[str, int] = ("", 0)
        self.reconnection: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        self._transport = cast("asyncio.Transport", transport)
        self.peer = transport.get_extra_info("peername")[:2]
        self._load.opened()
        self._send()

    def data_received(self, data: bytes) -> None:
        """Book a complete answer and send the next request."""
        if self._unread:
            data = self._unread + data
        try:
            answer = parse_answer(data)
        except ProtocolError as error:
            self._load.fail(error)
            self._close()
            return
        if answer is None:
            self._unread = data
            return
        self._unread = data[answer.length :]
        self._load.answered(self._position, answer.status, perf_counter() - self._sent_at)
        self._position = -1
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the run, which counts what was not answered."""
        self._load.closed(self, was_waiting=self._position >= 0)

    def _send(self) -> None:
        taken = self._load.take()
        if taken is None or self._transport is None:
            self._close()
            return
        self._position, (head, tail) = taken
        self._sent_at = perf_counter()
        self._transport.write(head + tail)

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()


def _milliseconds(latencies: Sequence[float], share: float) -> float:
    return round(1000 * percentile(latencies, share), 3) if latencies else 0.0
