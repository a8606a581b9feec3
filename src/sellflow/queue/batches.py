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


def apart(claims: Sequence[Claim]) -> list[list[Claim]]:
    """Split a claim into batches: each message that was claimed before alone, then all the others together.

    A message that was claimed before without an outcome may be what killed the worker then. Alone, it can take no
    other with it, and only its own count of claims goes on rising. So that none is overtaken, others of its key are
    handled one by one as well.
    """
    suspect = {each.line or each.msg_id for each in claims if each.read_ct > 1}
    alone = [each for each in claims if (each.line or each.msg_id) in suspect]
    together = [each for each in claims if (each.line or each.msg_id) not in suspect]
    return [[each] for each in alone] + ([together] if together else [])


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
