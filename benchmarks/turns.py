"""Sides in turn: prepared once, then started, loaded, audited and stopped, A B A B …, never two at a time."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.benchmark import Options
from benchmarks.deliveries import make_requests, webhook_id
from benchmarks.errors import BenchmarkError
from benchmarks.load import LoadResult
from benchmarks.load_process import LoadOrder, run_load
from benchmarks.machine import machine_versions
from benchmarks.report import progress
from benchmarks.servers import HOST, ask_raw
from benchmarks.sides import Audit, HttpSide, StoringSide, audit

CONNECTIONS = 32
PAIRS = 3
WARM_UP = 1.0


@dataclass(frozen=True)
class Turn:
    """One side's figures in one round, and whether it kept its word."""

    load: LoadResult
    audit: Audit


class Turns:
    """Runs the turns and collects what the sides say about themselves."""

    def __init__(
        self,
        options: Options,
        *,
        path: str,
        secret: str,
        folder: Path,
        client: Callable[[LoadOrder], tuple[LoadResult, set[int]]] = run_load,
        ask: Callable[[int, bytes], int] = ask_raw,
    ) -> None:
        self._options = options
        self._client = client
        self._ask = ask
        self._path = path
        self._secret = secret
        self._folder = folder
        self._runs = 0
        self.durability: dict[str, dict[str, str]] = {}
        self.versions: dict[str, dict[str, str]] = {"machine": machine_versions(folder)}

    def rounds(self, sides: Sequence[StoringSide]) -> list[dict[str, Turn]]:
        """Let every side have its turn, then again, and compare what it acknowledged with what it stored."""
        for side in sides:
            progress(f"preparing {side.name}")
            side.prepare(self._folder_of(side))
        return [
            {side.name: self._turn(side, f"pair {number} of {PAIRS}") for side in sides}
            for number in range(1, PAIRS + 1)
        ]

    def floors(self, sides: Sequence[HttpSide]) -> dict[str, float]:
        """Measure each server that stores nothing once."""
        rates = {}
        for side in sides:
            side.prepare(self._folder_of(side))
            with self._running(side) as port:
                rates[side.name] = self._load(side, port, "floor")[0].rps
        return rates

    def _turn(self, side: StoringSide, when: str) -> Turn:
        with self._running(side) as port:
            load, acknowledged = self._load(side, port, when)
            checked = audit({webhook_id(self._runs, number) for number in acknowledged}, side.stored(self._runs))
            self.durability[side.name] = side.durability()
        for broken, count in (
            ("lost", checked.lost),
            ("unqueued", checked.unqueued),
            ("doubled", checked.doubled),
        ):
            if count:
                progress(f"{when}: {side.name} {broken} {count} of {checked.acknowledged} deliveries")
        return Turn(load, checked)

    @contextmanager
    def _running(self, side: HttpSide) -> Iterator[int]:
        try:
            port = side.start()
            self.versions[side.name] = side.versions()
            self._expect_refusal(side, port)
            yield port
        finally:
            side.stop()

    def _expect_refusal(self, side: HttpSide, port: int) -> None:
        """Make sure that the side does check signatures: a forged delivery must be answered with 401."""
        forged = make_requests(
            secret=f"not {self._secret}",
            run=0,
            count=1,
            host=f"{HOST}:{port}",
            path=self._path,
            moment=datetime.now(UTC),
        )
        status = self._ask(port, b"".join(forged.parts[0]))
        if status != 401:
            raise BenchmarkError(f"{side.name} answered a forged delivery with {status} instead of 401")

    def _load(self, side: HttpSide, port: int, when: str) -> tuple[LoadResult, set[int]]:
        """Put the side under load as a run of its own, so that no webhook id comes twice between turns."""
        self._runs += 1
        scale, seconds = self._options.scale, self._options.seconds
        result, acknowledged = self._client(
            LoadOrder(
                port=port,
                path=self._path,
                secret=self._secret,
                run=self._runs,
                count=int(side.ceiling * scale * (WARM_UP + seconds)),
                connections=CONNECTIONS * scale,
                warm_up=WARM_UP,
                seconds=seconds,
                acknowledged_file=str(self._folder / "acknowledged"),
            )
        )
        if not result.requests:
            raise BenchmarkError(f"{side.name} answered nothing in the measured time: {result}")
        progress(f"{when}: {side.name} {result.rps:,.0f}/s, p99 {result.p99_ms:.1f} ms{oddities(result)}")
        return result, acknowledged

    def _folder_of(self, side: HttpSide) -> Path:
        folder = self._folder / side.name
        folder.mkdir()
        return folder


def oddities(result: LoadResult) -> str:
    """Say what in a turn was not as it should be, or nothing."""
    refused = {status: count for status, count in result.statuses.items() if not status.startswith("2")}
    odd = [f"{count} answers with {status}" for status, count in refused.items()]
    if result.connection_errors:
        odd.append(f"{result.connection_errors} requests without an answer")
    if result.exhausted:
        odd.append("ran out of prepared deliveries, see --scale")
    return "".join(f"; {each}" for each in odd)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a folder that goes away afterwards, and that the servers' own users may pass through.

    It lies in /var/tmp, as /tmp may be memory, where a sync costs nothing; TMPDIR overrides that.
    """
    parent = os.environ.get("TMPDIR") or "/var/tmp"  # noqa: S108 - mkdtemp makes a private folder in it
    with tempfile.TemporaryDirectory(prefix="bench-", dir=parent) as name:
        folder = Path(name)
        folder.chmod(0o711)
        yield folder
