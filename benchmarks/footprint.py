"""footprint: what everything that `make up` starts costs while it idles, and how soon it is ready.

Sellflow runs with a data folder and ports of its own, plays its demo, and is then left alone: memory is the
sum of proportional set sizes, processor time is measured over `--seconds`. The embedded Postgres counts with
all its children; they are not in the process tree of `sellflow up`, so its postmaster is looked up in the
data folder.

`--scale N` plays the demo N times before the idle measurement.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.benchmark import Benchmark, Options, Result
from benchmarks.machine import machine_versions
from benchmarks.memory import process_names, process_tree, processor_seconds, proportional_bytes
from benchmarks.report import fact_table, progress
from benchmarks.sellflow_side import READY, Installation
from benchmarks.servers import ServerProcess
from benchmarks.turns import temporary_folder

MEBIBYTE = 1024 * 1024
#: Seconds that what the demo set in motion gets to come to rest.
SETTLING = 5.0


@dataclass(frozen=True)
class Idle:
    """What the idle processes cost."""

    rss_mb: float
    cpu_percent: float
    processes: dict[str, float]


def run(options: Options) -> Result:
    """Start with a new database, play the demo, measure at rest, then start once more."""
    with temporary_folder() as folder:
        installation = Installation(folder)
        progress("starting `sellflow up` with a new database")
        with _up(installation) as (server, first_ready):
            for _ in range(options.scale):
                progress("playing `sellflow demo`")
                installation.command("demo")
            progress(f"measuring {options.seconds:.0f} s of idling")
            time.sleep(SETTLING)
            idle = measure_idle(installation, server, options.seconds)
        progress("starting again on the existing database")
        with _up(installation) as (_, ready):
            pass
        machine = machine_versions(folder)
    return summarise(idle, ready=ready, first_ready=first_ready, machine=machine)


@contextmanager
def _up(installation: Installation) -> Iterator[tuple[ServerProcess, float]]:
    """Run `sellflow up` and yield it with the seconds from its start until it was ready."""
    server = installation.serve("up")
    try:
        yield server, server.wait_until_answering(installation.web_port, READY)
    finally:
        server.stop()
        installation.end_postgres()


def measure_idle(installation: Installation, server: ServerProcess, seconds: float) -> Idle:
    """Watch every process for a time, then weigh them."""
    used, started = processor_seconds(_processes(installation, server)), time.perf_counter()
    time.sleep(seconds)
    pids = _processes(installation, server)
    share = (processor_seconds(pids) - used) / (time.perf_counter() - started)
    return Idle(
        rss_mb=round(proportional_bytes(pids) / MEBIBYTE, 1),
        cpu_percent=round(100 * share, 2),
        processes={
            f"{pid} {name}": round(proportional_bytes([pid]) / MEBIBYTE, 1) for pid, name in process_names(pids).items()
        },
    )


def _processes(installation: Installation, server: ServerProcess) -> set[int]:
    found = installation.postmaster()
    return process_tree(server.pid) | (process_tree(found[0]) if found else set())


def summarise(idle: Idle, *, ready: float, first_ready: float, machine: dict[str, str]) -> Result:
    """Turn the figures into the contract's fields and a table for people."""
    fields = {
        "rss_mb": idle.rss_mb,
        "cpu_percent": idle.cpu_percent,
        "ready_s": round(ready, 3),
        "first_ready_s": round(first_ready, 3),
        "processes": idle.processes,
        "versions": {"machine": machine},
    }
    facts = [
        ("memory (proportional)", f"{idle.rss_mb:.1f} MB in {len(idle.processes)} processes"),
        ("processor, of one core", f"{idle.cpu_percent:.2f} %"),
        ("ready on an existing database", f"{ready:.2f} s"),
        ("ready with a new database", f"{first_ready:.2f} s"),
    ]
    return Result(fields, (fact_table("Everything that `make up` starts, idle after the demo", facts),))


BENCHMARK = Benchmark(
    name="footprint",
    summary="memory and processor of everything `make up` starts, idle; seconds until it is ready",
    seconds=15.0,
    run=run,
)
