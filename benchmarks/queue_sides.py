"""What a queue benchmark compares: a side's queue is filled, then its one worker process empties it."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from sellflow.postgres.embedded import SERVER_SETTINGS as EMBEDDED_SETTINGS

#: Every side's Postgres is set up alike: as the embedded one is, with room for the pools of 32.
SERVER_SETTINGS = EMBEDDED_SETTINGS | {"max_connections": "120"}


class Worked(Protocol):
    """A queue's one worker process."""

    name: str

    def work(self) -> None:
        """Start the worker process."""

    def processes(self) -> dict[str, int]:
        """Return the process ids of the worker and the servers, without their children."""

    def said(self) -> str:
        """Return the end of the worker's log."""


class QueueSide(Worked, Protocol):
    """One queue with its worker; only one side runs at a time."""

    def prepare(self, folder: Path) -> None:
        """Install what is missing and make the data under `folder`, which belongs to this side alone."""

    def start(self) -> str:
        """Start the servers; return how libpq finds the database that holds the effects."""

    def fill(self, orders: Path) -> None:
        """Queue the orders of a file, one a line; no worker runs meanwhile."""

    def stop(self) -> None:
        """Stop worker and servers; harmless when none runs."""

    def durability(self) -> dict[str, dict[str, str]]:
        """Read back the settings that durability rests on, by server; asked while it runs."""

    def versions(self) -> dict[str, str]:
        """Name the parts and their versions; asked while it runs."""
