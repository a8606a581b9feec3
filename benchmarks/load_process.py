"""The load client as a process of its own: an order as JSON comes in, a result as JSON goes out.

Its work must not run in the harness, nor wait for it, and its memory goes with it.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import uvloop

from benchmarks.deliveries import Requests, make_requests
from benchmarks.errors import BenchmarkError
from benchmarks.load import Load, LoadResult


@dataclass(frozen=True)
class LoadOrder:
    """What to send where: `count` signed deliveries of one run, over `connections`, for a time."""

    port: int
    path: str
    secret: str
    run: int
    count: int
    connections: int
    warm_up: float
    seconds: float
    acknowledged_file: str
    host: str = "127.0.0.1"


def run_load(order: LoadOrder) -> tuple[LoadResult, set[int]]:
    """Run the client as a process of its own; return its figures and the numbers acknowledged with 2xx.

    Raises
    ------
    BenchmarkError
        If the client fails, with the end of what it said.
    """
    client = subprocess.run(
        [sys.executable, "-m", "benchmarks.load_process"],
        input=json.dumps(asdict(order)),
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent.parent,
    )
    if client.returncode:
        raise BenchmarkError(f"the load client failed: {client.stderr.strip()[-800:]}")
    return LoadResult(**json.loads(client.stdout)), set(read_numbers(Path(order.acknowledged_file)))


def write_numbers(path: Path, numbers: Sequence[int]) -> None:
    """Write numbers to a file of eight bytes each."""
    with path.open("wb") as file:
        array("Q", numbers).tofile(file)


def read_numbers(path: Path) -> array[int]:
    """Return the numbers of such a file."""
    numbers = array("Q")
    numbers.frombytes(path.read_bytes())
    return numbers


def _requests(order: LoadOrder) -> Requests:
    return make_requests(
        secret=order.secret,
        run=order.run,
        count=order.count,
        host=f"{order.host}:{order.port}",
        path=order.path,
        moment=datetime.now(UTC),
    )


async def _measure(order: LoadOrder, requests: Requests) -> LoadResult:
    load = Load(requests.parts, warm_up=order.warm_up, seconds=order.seconds)
    result = await load.run(order.host, order.port, order.connections)
    write_numbers(Path(order.acknowledged_file), [requests.numbers[position] for position in load.acknowledged])
    return result


def main(order: Mapping[str, object]) -> LoadResult:
    """Prepare the requests, then send them with the garbage collector off: it would find nothing to free."""
    parsed = LoadOrder(**order)  # type: ignore[arg-type]
    requests = _requests(parsed)
    gc.collect()
    gc.freeze()
    gc.disable()
    return uvloop.run(_measure(parsed, requests))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(main(json.load(sys.stdin)))))
