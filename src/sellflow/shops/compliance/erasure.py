"""One request's erasure: every step is a transaction of its own, counted in it, and safe to take again."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from datetime import date

from sellflow.postgres.database import SessionConnection
from sellflow.postgres.personal_data import ABOUT, Inventory, RoomData, Subject
from sellflow.shops.compliance import event_log, store
from sellflow.shops.compliance.models import Person, Request, Scope
from sellflow.shops.compliance.redaction import Traits, pattern_of


def draw_anonymous_id() -> int:
    """Return an id that means nobody."""
    return -1 - secrets.randbelow(2**62)


class Erasure:
    """The erasure of a request, with the record of what it touched."""

    def __init__(self, connection: SessionConnection, inventory: Inventory, request: Request) -> None:
        self.connection = connection
        self.inventory = inventory
        self._request_id = request.request_id
        self._since = request.since_day or date.min
        self.counts = Counter(request.record)
        self.touched = set(request.touched)

    async def note(self, counts: dict[str, int], *, day: date | None = None) -> None:
        """Add rows to the record, in the transaction that erases them."""
        found = {table: number for table, number in counts.items() if number}
        if not found:
            return
        self.counts.update(found)
        for table in found:
            self.touched |= {f"{table}_{day:%Y%m%d}", f"{table}_default"} if day else set()
            self.touched.add(table)
        await store.save_record(self.connection, self._request_id, self.counts, self.touched)

    async def find_orders(self, subject: Subject) -> Subject:
        """Return the subject with all orders that any room knows of."""
        found = set(subject.order_ids)
        for room in self.inventory.rooms:
            if room.find_orders:
                rows = await self.connection.fetch(ABOUT + room.find_orders, *subject.arguments)
                found |= {row["order_id"] for row in rows}
        return replace(subject, order_ids=frozenset(found))

    async def erase_tables(self, subject: Subject) -> None:
        """Take a customer out of the tables, those of a room in one go: an account and its orders are renamed alike."""
        for room in self.inventory.rooms:
            async with self.connection.transaction():
                await self.note(await self._erase_room(room, subject))

    async def _erase_room(self, room: RoomData, subject: Subject) -> dict[str, int]:
        counts = {}
        for table in room.tables:
            if isinstance(table.erase, str) and table.erase:
                tag = await self.connection.execute(ABOUT + table.erase, *subject.arguments)
                counts[table.name] = int(tag.split()[-1])
            elif table.erase:
                assert not isinstance(table.erase, str)
                counts[table.name] = await table.erase(self.connection, subject)
        return counts

    async def erase_log(self, scope: Scope, subject: Subject, traits: Traits) -> None:
        """Strip every event that is about a customer or an order of theirs, and those that tell of such events."""
        keys = keys_of(subject)
        linked = await self._strip_found(scope, subject, keys, traits)
        while linked := linked - keys:
            keys |= linked
            linked = await self._strip_found(scope, subject, linked, None)

    async def _strip_found(self, scope: Scope, subject: Subject, keys: set[str], traits: Traits | None) -> set[str]:
        """Strip what is found by keys, or by traits besides; return the keys of events that tell of it."""
        linked: set[str] = set()
        for day in await event_log.days(self.connection):
            if day < self._since:
                break
            found = await event_log.search(
                self.connection,
                scope,
                day,
                keys=sorted(keys),
                traits=traits,
                request_id=self._request_id if traits else None,
            )
            linked |= await self.erase_events(scope, day, found, subject)
        return linked

    async def erase_events(self, scope: Scope, day: date, event_ids: Iterable[int], subject: Subject) -> set[str]:
        """Strip events of a day; return the keys of events that tell of these."""
        linked: set[str] = set()
        for batch in event_log.batches(event_ids):
            async with self.connection.transaction():
                erased = await event_log.erase_events(
                    self.connection,
                    self.inventory,
                    scope,
                    day,
                    event_ids=batch,
                    subject=subject,
                    mark=self._request_id,
                )
                await self.note(erased.counts, day=day)
            linked |= erased.linked
        return linked

    async def vacuum(self) -> None:
        """Have Postgres take what was erased off its pages: until then, the old rows are still there to be read."""
        for name in sorted(self.touched):
            rows = await self.connection.fetch(
                r"""
                SELECT c.oid::regclass::text AS quoted FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
                  AND (CASE n.nspname WHEN 'public' THEN '' ELSE n.nspname || '.' END || c.relname)
                      LIKE replace(replace($1, '_', '\_'), '*', '%')
                """,
                name,
            )
            for row in rows:
                await self.connection.execute(f"VACUUM (TRUNCATE false) {row['quoted']}")


def keys_of(subject: Subject) -> set[str]:
    """Return the keys of events about a customer and their orders."""
    keys = {f"order:{order_id}" for order_id in subject.order_ids}
    return keys if subject.customer_id is None else keys | {f"customer:{subject.customer_id}"}


def subject_of(shop_id: int, person: Person) -> Subject:
    """Return a customer as tables are asked for them, under a new anonymous id."""
    return Subject(
        shop_id=shop_id,
        customer_id=person.customer_id,
        anonymous_id=draw_anonymous_id(),
        order_ids=person.order_ids,
        pattern=pattern_of(person),
    )
