"""What is compared: a side is prepared once, then started and stopped in turn; only one runs at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Stored:
    """How often each webhook id of one run stands in the record, and how often in the queue."""

    records: Mapping[str, int]
    messages: Mapping[str, int]


@dataclass(frozen=True)
class Audit:
    """Whether a side kept its word: a 2xx answer is a promise that the delivery is stored, once."""

    acknowledged: int
    lost: int
    unqueued: int
    doubled: int


class HttpSide(Protocol):
    """A server under load. `ceiling` is the most requests a second that are prepared for it."""

    name: str
    ceiling: int

    def prepare(self, folder: Path) -> None:
        """Install what is missing and make the data under `folder`, which belongs to this side alone."""

    def start(self) -> int:
        """Start the servers and return the port, once it answers."""

    def stop(self) -> None:
        """Stop every server; harmless when none runs."""

    def versions(self) -> dict[str, str]:
        """Name the parts and their versions; asked while it runs."""


class StoringSide(HttpSide, Protocol):
    """A side that stores what it acknowledges."""

    def stored(self, run: int) -> Stored:
        """Return what is stored of one run's deliveries; asked while it runs."""

    def durability(self) -> dict[str, str]:
        """Read back the settings that durability rests on; asked while it runs."""


def audit(acknowledged: AbstractSet[str], stored: Stored) -> Audit:
    """Compare the webhook ids answered with 2xx with what is stored.

    Lost is a 2xx answer without a record, unqueued one without a message; doubled counts the webhook ids with
    a second record or message, whether they were acknowledged or not.
    """
    most_often = Counter(stored.records) | Counter(stored.messages)
    return Audit(
        acknowledged=len(acknowledged),
        lost=sum(1 for key in acknowledged if not stored.records.get(key)),
        unqueued=sum(1 for key in acknowledged if not stored.messages.get(key)),
        doubled=sum(1 for count in most_often.values() if count > 1),
    )
