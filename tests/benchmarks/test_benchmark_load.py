"""The closed-loop client against small servers of our own on loopback."""

from __future__ import annotations

import asyncio
import json
from array import array
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks.http1 import ProtocolError
from benchmarks.load import Load
from benchmarks.load_process import LoadOrder, main, read_numbers, write_numbers
from benchmarks.servers import ask_raw

Answering = Callable[[bytes], bytes]
PARTS = [(b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\n%02d" % number, b"!") for number in range(40)]


@asynccontextmanager
async def serving(answer: Answering, *, answers_per_connection: int = 10_000) -> AsyncIterator[int]:
    """Serve on a free port; close a connection after so many answers."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(answers_per_connection):
            try:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(answer(await reader.readexactly(3)))
                await writer.drain()
            except (asyncio.IncompleteReadError, ConnectionError):
                break
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def ok(_: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nOK"


async def send(answer: Answering, **options: int) -> Load:
    load = Load(PARTS, warm_up=0, seconds=60)
    async with serving(answer, **options) as port:
        await load.run("127.0.0.1", port, 4)
    return load


async def test_every_request_is_sent_once_and_the_run_ends_when_none_is_left() -> None:
    seen: list[bytes] = []

    def answer(body: bytes) -> bytes:
        seen.append(body)
        return ok(body)

    load = await send(answer)
    assert sorted(seen) == [b"%02d!" % number for number in range(40)]
    assert sorted(load.acknowledged) == list(range(40))
    assert load.exhausted


async def test_only_2xx_answers_count_as_acknowledged() -> None:
    def answer(body: bytes) -> bytes:
        return ok(body) if int(body[:2]) % 2 else b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n"

    load = await send(answer)
    assert sorted(load.acknowledged) == list(range(1, 40, 2))


async def test_a_connection_that_the_server_closes_is_opened_again() -> None:
    load = await send(ok, answers_per_connection=3)
    assert load.acknowledged
    assert load.exhausted
    assert len(load.acknowledged) + load.connection_errors == 40


async def test_an_answer_that_cannot_be_read_ends_the_run() -> None:
    with pytest.raises(ProtocolError):
        await send(lambda _: b"HTTP/1.1 200 OK\r\n\r\n")


async def test_a_server_that_is_not_there_is_an_error() -> None:
    async with serving(ok) as port:
        pass
    with pytest.raises(OSError, match="Connect"):
        await Load(PARTS, warm_up=0, seconds=60).run("127.0.0.1", port, 2)


async def test_the_figures_are_of_the_answers_before_the_window_ended() -> None:
    load = Load(PARTS, warm_up=0, seconds=60)
    async with serving(ok) as port:
        result = await load.run("127.0.0.1", port, 4)
    in_flight = 3  # on the other connections, when the first finds nothing more to send
    assert 40 - in_flight <= result.requests <= 40
    assert result.statuses == {"200": result.requests}
    assert result.accepted == result.sent == 40
    assert 0 < result.p50_ms <= result.p99_ms
    assert result.rps > 0


async def test_what_is_in_flight_at_the_end_is_still_acknowledged() -> None:
    load = Load(PARTS, warm_up=0, seconds=60)

    def answer(body: bytes) -> bytes:
        if int(body[:2]) >= 10:
            load.finish()
        return ok(body)

    async with serving(answer) as port:
        result = await load.run("127.0.0.1", port, 4)
    assert result.accepted == result.sent < 40
    assert result.requests < result.accepted


async def in_thread(work: Callable[[], object]) -> object:
    return await asyncio.get_running_loop().run_in_executor(None, work)


async def test_one_request_alone_is_asked_for_its_status() -> None:
    async with serving(lambda _: b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n") as port:
        assert await in_thread(lambda: ask_raw(port, b"".join(PARTS[0]))) == 401


async def test_the_process_sends_signed_deliveries_and_tells_which_were_acknowledged(tmp_path: Path) -> None:
    received: list[dict[str, object]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.partition(b"Content-Length: ")[2].split(b"\r\n")[0])
                received.append(json.loads(await reader.readexactly(length)))
                writer.write(ok(b""))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        order = LoadOrder(
            port=server.sockets[0].getsockname()[1],
            path="/webhooks/shopify/bench",
            secret="quiet",
            run=1,
            count=200,
            connections=3,
            warm_up=0,
            seconds=60,
            acknowledged_file=str(tmp_path / "acknowledged"),
        )
        await in_thread(lambda: main(asdict(order)))
    assert len(received) == 200
    assert set(read_numbers(tmp_path / "acknowledged")) == set(range(198))


def test_numbers_survive_the_file(tmp_path: Path) -> None:
    write_numbers(tmp_path / "numbers", [3, 1, 2**40])
    assert read_numbers(tmp_path / "numbers") == array("Q", [3, 1, 2**40])
