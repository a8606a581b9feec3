"""Worker processes that are killed while they hold claims."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson

from sellflow.errors import SellflowError
from sellflow.postgres.database import SessionConnection
from sellflow.settings import ENV_PREFIX

#: A small batch and a short claim, so that the demo need not wait half a minute for what the victim held.
VICTIM_SETTINGS = {
    "LOG_LEVEL": "debug",
    "LOG_FORMAT": "json",
    "WORKER_BATCH_SIZE": "10",
    "WORKER_VISIBILITY_TIMEOUT": "3",
    "OPERATIONS_PORT": "0",
}
TIMEOUT = 30.0


class VictimError(SellflowError):
    """A worker that was to be killed ended by itself, or got nothing to do."""

    code = "demo.victim"


class Victim:
    """A worker process of its own, whose log is read line by line."""

    def __init__(self, process: Process) -> None:
        self._process = process

    @classmethod
    async def start(cls) -> Victim:
        """Start a worker and return when it serves its queues."""
        environment = os.environ | {ENV_PREFIX + name: value for name, value in VICTIM_SETTINGS.items()}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "sellflow", "worker", env=environment, stdout=PIPE, stderr=STDOUT
        )
        victim = cls(process)
        await victim._next("worker.serves")
        return victim

    async def kill_while_claiming(self, connection: SessionConnection, shop_id: int) -> int:
        """SIGKILL the worker while it holds claimed messages, and return how many it held.

        The shop's row is locked meanwhile, so that no worker can finish a batch that records new orders: the
        victim is caught in the middle of its transaction, not in a lucky moment.
        """
        async with connection.transaction():
            await connection.execute("SELECT 1 FROM shops WHERE shop_id = $1 FOR UPDATE", shop_id)
            while True:
                entry = await self._next("queue.claimed")
                os.kill(self._process.pid, signal.SIGSTOP)
                held = await _still_held(connection, entry["queue"], entry["messages"])
                if held:
                    self._process.kill()
                    await self._process.wait()
                    return held
                os.kill(self._process.pid, signal.SIGCONT)

    async def end(self) -> None:
        """Make sure that the process is gone."""
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def _next(self, event: str) -> dict[str, object]:
        """Return the next log entry of an event."""
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(TIMEOUT):
                async for line in self._process.stdout:
                    entry = _entry(line)
                    if entry.get("event") == event:
                        return entry
        except TimeoutError as error:
            raise VictimError(f"a worker logged no {event} within {TIMEOUT:.0f} s") from error
        raise VictimError(f"a worker ended with status {await self._process.wait()}: run `sellflow worker` to see why")


@asynccontextmanager
async def victims(number: int) -> AsyncIterator[list[Victim]]:
    """Start several workers that are to be killed; none survives the block."""
    started = await asyncio.gather(*(Victim.start() for _ in range(number)))
    try:
        yield started
    finally:
        await asyncio.gather(*(victim.end() for victim in started))


def _entry(line: bytes) -> dict[str, object]:
    try:
        entry = orjson.loads(line)
    except orjson.JSONDecodeError:
        return {}
    return entry if isinstance(entry, dict) else {}


async def _still_held(connection: SessionConnection, queue: object, messages: object) -> int:
    held = await connection.fetchval(
        f"""SELECT count(*) FROM pgmq."q_{queue}" WHERE msg_id = ANY ($1::bigint[]) AND vt > clock_timestamp()""",
        messages,
    )
    return int(held)
