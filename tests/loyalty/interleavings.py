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


@dataclass(frozen=True)
class FallIll:
    """Loyalty fails from now on at an order, and the witness at one event in three."""

    order_id: int
    remainder: int


@dataclass(frozen=True)
class Recover:
    """They fail at nothing any more."""


#: What consumers do, and what happens to them.
Act = Work | Die | Stall | WakeUp | GiveUp
Happening = Poison | Expire | ComeDue | FallIll | Recover
Step = Deliver | Act | Happening


@dataclass(frozen=True)
class Plan:
    """What happened in the shops, in which order it is told (by number, some of it twice), and what comes between."""

    stories: tuple[OrderStory, ...]
    arrival: tuple[int, ...]
    steps: tuple[Step, ...]


_queues, _batches = st.sampled_from(QUEUES), st.sampled_from([1, 2, 5, 50])
_orders, _remainders = st.integers(1001, 1004), st.integers(0, 2)
_steps = st.one_of(
    st.builds(Deliver, st.integers(1, 8)),
    st.builds(Work, _queues, _batches),
    st.builds(Die, _queues, _batches, st.integers(1, 30), st.sampled_from(["before", "after", "fails"])),
    st.builds(Stall, _queues, _batches),
    st.builds(WakeUp, st.integers(0, 3), st.sampled_from([0, 0, 2, 50])),
    st.builds(GiveUp, st.integers(0, 3)),
    st.just(Expire()),
    st.just(ComeDue()),
    st.builds(FallIll, _orders, _remainders),
    st.just(Recover()),
    st.builds(Poison, _orders),
)


def _arrivals(queue: str) -> tuple[Step, ...]:
    """Let messages come into a queue, several of a key if there are any."""
    return (Deliver(8),) if queue == "loyalty" else (Deliver(8), Work("loyalty", 50)) * 2


@st.composite
def _rivals(draw: st.DrawFn) -> tuple[Step, ...]:
    """Somebody loses a claim, or only its first messages, to another, and goes on all the same."""
    queue = draw(_queues)
    return (
        *_arrivals(queue),
        Stall(queue, draw(st.sampled_from([2, 50]))),
        Expire(),
        Stall(queue, draw(st.sampled_from([1, 1, 2, 50]))),
        WakeUp(draw(st.sampled_from([-2, -2, -1])), draw(st.sampled_from([0, 0, 50]))),
    )


@st.composite
def _illness(draw: st.DrawFn) -> tuple[Step, ...]:
    """A message fails and waits; others of its key come, and wait behind it."""
    queue, batch = draw(_queues), draw(_batches)
    ill = FallIll(draw(_orders), draw(_remainders))
    more = Deliver(draw(st.integers(1, 8)))
    return (*_arrivals(queue), ill, Work(queue, batch), more, Work(queue, batch), Recover(), ComeDue())


_scenes = st.one_of(
    _steps.map(lambda step: (step,)),
    _rivals(),
    _illness(),
    st.just((Deliver(8), Work("loyalty", 50))),
)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Everything that may happen."""
    stories = draw(histories())
    number = sum(len(told(each)[0]) for each in stories)
    arrival = draw(st.permutations(range(number)))
    for place, again in draw(st.lists(st.tuples(st.integers(0, number), st.integers(0, number - 1)), max_size=6)):
        arrival.insert(place, again)
    return Plan(stories, tuple(arrival), sum(draw(st.lists(_scenes, min_size=1, max_size=12)), ()))
