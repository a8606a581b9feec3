"""What tables hold of people: each room declares its own, so that a customer or a whole shop can be erased from all.

A table that nobody declares fails a test. The statements of a declaration are put behind one of two prefixes:

- `ABOUT`: the one row `subject` (shop_id, customer_id, anonymous_id, order_ids, pattern) is whom it is about;
- `OF_EVENTS`: the one row `refs` (shop_id, day, event_ids) names events of the log that are being erased.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from fnmatch import fnmatchcase

from sellflow.errors import ConfigurationError
from sellflow.postgres.database import Connection

ABOUT = """WITH subject AS (
    SELECT $1::bigint AS shop_id, $2::bigint AS customer_id, $3::bigint AS anonymous_id, $4::bigint[] AS order_ids,
           $5::text AS pattern
)
"""
OF_EVENTS = "WITH refs AS (SELECT $1::bigint AS shop_id, $2::date AS day, $3::bigint[] AS event_ids)\n"


class Holds(StrEnum):
    """What a table holds."""

    #: Something of a shop's customers, in some column.
    PERSONAL = "personal"
    #: Something of a shop, and nothing of its customers.
    SHOP = "shop"
    #: Nothing of any shop.
    INSTALLATION = "installation"


@dataclass(frozen=True, slots=True)
class Subject:
    """A customer of a shop, and what may be found of them.

    `anonymous_id` takes the place of the customer's id: negative, drawn anew each time, derived from nothing.
    `pattern` is a regular expression, without regard to case, that finds mentions in free text.
    """

    shop_id: int
    customer_id: int | None
    anonymous_id: int
    order_ids: frozenset[int] = frozenset()
    pattern: str | None = None

    @property
    def arguments(self) -> tuple[int, int | None, int, list[int], str | None]:
        """The parameters behind `ABOUT`."""
        return self.shop_id, self.customer_id, self.anonymous_id, sorted(self.order_ids), self.pattern


@dataclass(frozen=True, slots=True)
class EventRefs:
    """Events of one day of the log; `shop_id` is None where their shop is not known."""

    shop_id: int | None
    day: date
    event_ids: tuple[int, ...]

    @property
    def arguments(self) -> tuple[int | None, date, list[int]]:
        """The parameters behind `OF_EVENTS`."""
        return self.shop_id, self.day, list(self.event_ids)


#: Erases a subject where one statement cannot; returns how many rows were changed.
EraseSubject = Callable[[Connection, Subject], Awaitable[int]]
#: Deletes up to so many rows of a shop, in the caller's transaction; returns how many of each table, nothing when
#: nothing is left.
DeleteBatch = Callable[[Connection, int, int], Awaitable[dict[str, int]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table (or several, where `name` has a *), and how people are erased from it.

    `erase` and `export` stand behind `ABOUT`, `erase_events`, `export_events` and `delete_events` behind `OF_EVENTS`;
    what is exported is a SELECT. `delete` removes a batch of a shop's rows; left out, they go by their `shop_id`.
    `goes_with` names what removes them instead: `delete_events`, as the log is walked through, or `delete_domain` for
    rows that know a shop by $1, its app, and $2, its domain, alone.
    """

    name: str
    holds: Holds
    why: str
    erase: str | EraseSubject = ""
    erase_events: str = ""
    export: str = ""
    export_events: str = ""
    delete_events: str = ""
    delete_domain: str = ""
    delete: DeleteBatch | None = None
    goes_with: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomData:
    """The tables of a room, in the order in which a shop's rows can be deleted.

    `find_orders` (behind `ABOUT`) selects the ids of a customer's orders, and `find_linked` (behind `OF_EVENTS`) the
    keys of events that tell of erased ones. `keeps` names the fields of payloads that are no personal data, and
    without which a handler could not work on an event that was erased.
    """

    room: str
    tables: tuple[Table, ...]
    find_orders: str = ""
    find_linked: str = ""
    keeps: frozenset[str] = field(default_factory=frozenset)


class Inventory:
    """Everything that is declared.

    Raises
    ------
    ConfigurationError
        If two rooms declare one table, or a table with personal data says nothing of how it is erased.
    """

    def __init__(self, rooms: Iterable[RoomData]) -> None:
        self.rooms = tuple(rooms)
        seen: dict[str, str] = {}
        for room in self.rooms:
            for table in room.tables:
                if seen.setdefault(table.name, room.room) != room.room:
                    raise ConfigurationError(
                        f"the table {table.name} is declared by {seen[table.name]} and {room.room}"
                    )
                if table.holds is Holds.PERSONAL and not (table.erase or table.erase_events or table.goes_with):
                    raise ConfigurationError(f"{room.room} does not say how personal data is erased from {table.name}")
        self.keeps = frozenset[str]().union(*(room.keeps for room in self.rooms))

    def tables(self) -> Iterator[Table]:
        """Yield every table, those of the upper rooms first, as their rows refer to those of the lower."""
        for room in self.rooms:
            yield from room.tables

    def find(self, name: str) -> Table | None:
        """Return the declaration of a table."""
        return next((table for table in self.tables() if fnmatchcase(name, table.name)), None)


#: This room's own.
PERSONAL_DATA = RoomData(
    room="postgres",
    tables=(
        Table(name="leases", holds=Holds.INSTALLATION, why="who does what; names hold ids of ours at most"),
        Table(name="schema_version", holds=Holds.INSTALLATION, why="the revision"),
    ),
)
