"""A worker process that is killed while it holds claims."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process

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


class VictimError(SellflowError):
    """The worker that was to be killed ended by itself."""

    code = "demo.victim_ended"


async def kill_while_claiming(connection: SessionConnection) -> int:
    """Start a worker, SIGKILL it while it holds claimed messages, and return how many it held.

    The worker logs each claim. At such a line it is halted (SIGSTOP) and the queue is asked whether the claimed
    messages are still there, unacknowledged: only then is it killed, else it goes on to its next claim.
    """
    worker = await _start()
    try:
        assert worker.stdout is not None
        async for line in worker.stdout:
            claimed = _claimed(line)
            if claimed:
                os.kill(worker.pid, signal.SIGSTOP)
                held = await _still_held(connection, *claimed)
                if held:
                    return held
                os.kill(worker.pid, signal.SIGCONT)
        raise VictimError(f"the worker ended with status {await worker.wait()}; run `sellflow worker` to see why")
    finally:
        if worker.returncode is None:
            worker.kill()
        await worker.wait()


async def _start() -> Process:
    environment = os.environ | {ENV_PREFIX + name: value for name, value in VICTIM_SETTINGS.items()}
    command = [sys.executable, "-m", "sellflow", "worker"]
    return await asyncio.create_subprocess_exec(
        *command, env=environment, stdout=PIPE, stderr=asyncio.subprocess.STDOUT
    )


def _claimed(line: bytes) -> tuple[str, list[int]] | None:
    """Return queue and message ids of a log line that reports a claim."""
    try:
        entry = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return (entry["queue"], entry["messages"]) if entry.get("event") == "queue.claimed" else None


async def _still_held(connection: SessionConnection, queue: str, messages: list[int]) -> int:
    held = await connection.fetchval(
        f"""SELECT count(*) FROM pgmq."q_{queue}" WHERE msg_id = ANY ($1::bigint[]) AND vt > clock_timestamp()""",
        messages,
    )
    return int(held)
