"""What may happen to messages on their way to the ledger, step by step."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

from tests.loyalty.histories import OrderStory, histories, told
from tests.queue.mortality import When

#: Loyalty, and a handler whose effect nothing but the queue keeps from being doubled.
QUEUES = ("loyalty", "witness")


@dataclass(frozen=True)
class Deliver:
    """The next deliveries arrive."""

    number: int


@dataclass(frozen=True)
class Poison:
    """A delivery arrives that nobody can handle, about an order that others are about as well."""

    order_id: int


@dataclass(frozen=True)
class Work:
    """A consumer does one round."""

    queue: str
    batch: int


@dataclass(frozen=True)
class Die:
    """A consumer dies around its n-th statement, or the server refuses that one."""

    queue: str
    batch: int
    statement: int
    when: When


@dataclass(frozen=True)
class Stall:
    """A consumer claims a batch and stands still."""

    queue: str
    batch: int


@dataclass(frozen=True)
class WakeUp:
    """One that stood still goes on with what it had claimed; beside another, where `beside` is a batch size."""

    which: int
    beside: int


@dataclass(frozen=True)
class GiveUp:
    """One that stood still hands its claims back."""

    which: int


@dataclass(frozen=True)
class Expire:
    """Time passes: claims run out."""


@dataclass(frozen=True)
class ComeDue:
    """Time passes: what waits for another attempt may be tried."""


Step = Deliver | Poison | Work | Die | Stall | WakeUp | GiveUp | Expire | ComeDue


@dataclass(frozen=True)
class Plan:
    """What happened in the shops, in which order it is told (by number, some of it twice), and what comes between."""

    stories: tuple[OrderStory, ...]
    arrival: tuple[int, ...]
    steps: tuple[Step, ...]


_queues, _batches = st.sampled_from(QUEUES), st.sampled_from([1, 2, 5, 50])
_steps = st.one_of(
    st.builds(Deliver, st.integers(1, 8)),
    st.builds(Work, _queues, _batches),
    st.builds(Die, _queues, _batches, st.integers(1, 30), st.sampled_from(["before", "after", "fails"])),
    st.builds(Stall, _queues, _batches),
    st.builds(WakeUp, st.integers(0, 3), st.sampled_from([0, 0, 2, 50])),
    st.builds(GiveUp, st.integers(0, 3)),
    st.just(Expire()),
    st.just(ComeDue()),
    st.builds(Poison, st.integers(1001, 1004)),
)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Everything that may happen."""
    stories = draw(histories())
    number = sum(len(told(each)[0]) for each in stories)
    arrival = draw(st.permutations(range(number)))
    for place, again in draw(st.lists(st.tuples(st.integers(0, number), st.integers(0, number - 1)), max_size=6)):
        arrival.insert(place, again)
    return Plan(stories, tuple(arrival), tuple(draw(st.lists(_steps, min_size=1, max_size=20))))
