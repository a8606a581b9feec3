"""How messages that were claimed together are cut into batches, so that each key keeps its order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sellflow.queue.claims import Claim, Line
from sellflow.queue.topics import Event, Handler


@dataclass(slots=True)
class Busy:
    """The lines of a claim whose later messages have to wait."""

    #: An elder message failed, and is to be tried again first.
    held_up: set[Line] = field(default_factory=set)
    #: Somebody else holds an elder message by now.
    elsewhere: set[Line] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Ready:
    """A message that was taken, with what its handler works on, or with why it cannot."""

    claim: Claim
    event: Event
    handler: Handler | None
    parsed: Any = None
    error: Exception | None = None
    #: False where an elder message of its key failed before its own call's turn came.
    was_asked: bool = True

    @property
    def name(self) -> str:
        """The name of its handler."""
        return self.handler.name if self.handler else "none"


#: Messages that were claimed before are handled so many at a time at first.
SUSPECTS_TOGETHER = 20


@dataclass(frozen=True, slots=True)
class Parts:
    """A claim split by what is known of its messages."""

    #: Never claimed before.
    fresh: list[Claim]
    #: Claimed before without an outcome: one of them may be what killed the worker then.
    suspects: list[Claim]
    #: More of these, to be left alone for now.
    others: list[Claim]


def apart(claims: Sequence[Claim], *, most_claims: int) -> Parts:
    """Split a claim so that a message which kills its worker takes no other with it.

    Only a few suspects are handled at a time, and from half of the `most_claims` that a message may have on one
    alone; nothing else is in hand meanwhile, so that in the end only the count of the culprit goes on rising.
    Messages of one key are treated as the one of them that was claimed most often, so that none is overtaken.
    """
    reads: dict[object, int] = {}
    for each in claims:
        line = each.line or each.msg_id
        reads[line] = max(reads.get(line, 0), each.read_ct)
    parts: tuple[list[Claim], list[Claim], list[Claim]] = ([], [], [])
    for each in claims:
        count = reads[each.line or each.msg_id]
        parts[0 if count == 1 else 1 if count <= most_claims // 2 else 2].append(each)
    fresh, few, alone = parts
    size = SUSPECTS_TOGETHER if few else 1
    return Parts(fresh, (few or alone)[:size], [*few[size:], *(alone if few else alone[size:])])


def in_order(batch: Sequence[Ready]) -> list[list[Ready]]:
    """Group messages by handler, in as few groups as keep those of one key in their order.

    What failed already is grouped apart from what can be applied.
    """
    waves: list[dict[tuple[str, bool], list[Ready]]] = []
    places: dict[Line, tuple[int, tuple[str, bool]]] = {}
    for each in batch:
        group = (each.name, each.error is not None)
        line = each.claim.line
        wave, before = places.get(line, (0, group)) if line else (0, group)
        wave += before != group
        if line:
            places[line] = (wave, group)
        while len(waves) <= wave:
            waves.append(defaultdict(list))
        waves[wave][group].append(each)
    return [group for wave in waves for group in wave.values()]
