"""The file of a data request: one JSON document of everything that is stored of a customer, made and read in parts.

It never stands in memory whole, and no part of it stands in the database unencrypted.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

import orjson

from sellflow.errors import NotFoundError
from sellflow.postgres.database import Connection, SessionConnection
from sellflow.postgres.personal_data import ABOUT, OF_EVENTS, EventRefs, Inventory, Subject
from sellflow.secrets import Vault
from sellflow.shops.compliance import event_log, store
from sellflow.shops.compliance.erasure import Erasure, keys_of, subject_of
from sellflow.shops.compliance.models import Kind, Request
from sellflow.shops.compliance.redaction import traits_of

#: Characters of a part: small enough for memory, large enough that sealing costs little.
PART = 131_072

Found = list[tuple[date, list[int]]]


class ExportWriter:
    """Writes a text into the database, sealed part by part."""

    def __init__(self, connection: Connection, vault: Vault, request: Request) -> None:
        self._connection = connection
        self._vault = vault
        self._request = request
        self._parts = 0
        self._waiting: list[str] = []
        self._size = 0

    async def write(self, text: str) -> None:
        """Add to the text."""
        self._waiting.append(text)
        self._size += len(text)
        if self._size >= PART:
            await self.flush()

    async def flush(self) -> None:
        """Store what waits."""
        text = "".join(self._waiting)
        self._waiting, self._size = [], 0
        for start in range(0, len(text), PART):
            await self._store(text[start : start + PART])

    async def _store(self, text: str) -> None:
        request_id, shop_id = self._request.request_id, self._request.shop_id
        sealed = await self._vault.seal(
            self._connection, text, shop_id=shop_id, purpose=_purpose(request_id, self._parts)
        )
        await self._connection.execute(
            "INSERT INTO compliance_exports (request_id, part, shop_id, sealed) VALUES ($1, $2, $3, $4)",
            request_id,
            self._parts,
            shop_id,
            sealed,
        )
        self._parts += 1


def _purpose(request_id: int, part: int) -> str:
    return f"compliance/{request_id}/export/{part}"


async def make_export(work: Erasure, vault: Vault, request: Request) -> None:
    """Write the file of a data request; what an interrupted attempt left is written anew."""
    assert request.person is not None
    connection, inventory = work.connection, work.inventory
    await connection.execute("DELETE FROM compliance_exports WHERE request_id = $1", request.request_id)
    subject = subject_of(request.shop_id or 0, request.person)
    if request.shop_id is not None:
        subject = await work.find_orders(subject)
    found = [
        (day, ids)
        for day in await event_log.days(connection)
        if (
            ids := await event_log.search(
                connection, request.scope, day, keys=sorted(keys_of(subject)), traits=traits_of(request.person)
            )
        )
    ]
    writer = ExportWriter(connection, vault, request)
    await writer.write(f'{{"request":{_heading(request)},"tables":{{')
    await _write_tables(writer, connection, inventory, subject)
    await _write_written_of_events(writer, connection, inventory, request, found)
    await writer.write('"events":[')
    await _write_events(writer, connection, found)
    await writer.write("]}}")
    await writer.flush()


def _heading(request: Request) -> str:
    assert request.person is not None
    facts = {
        "request_id": request.request_id,
        "data_request_id": request.external_id,
        "shop": request.shop_domain,
        "customer": {
            "id": request.person.customer_id,
            "email": request.person.email,
            "phone": request.person.phone,
        },
        "orders_requested": sorted(request.person.order_ids),
        "received_at": request.received_at,
        "made_at": datetime.now(UTC),
    }
    return orjson.dumps(facts).decode()


async def _write_tables(
    writer: ExportWriter, connection: SessionConnection, inventory: Inventory, subject: Subject
) -> None:
    for table in inventory.tables():
        if not table.export:
            continue
        await writer.write(f'"{table.name}":[')
        async with connection.transaction():
            cursor = connection.cursor(
                f"{ABOUT} SELECT row_to_json(t)::text AS line FROM ({table.export}) t",
                *subject.arguments,
                prefetch=500,
            )
            comma = ""
            async for row in cursor:
                await writer.write(comma + row["line"])
                comma = ","
        await writer.write("],")


async def _write_written_of_events(
    writer: ExportWriter, connection: SessionConnection, inventory: Inventory, request: Request, found: Found
) -> None:
    """Write what tables hold of events, such as deliveries of them."""
    for table in inventory.tables():
        if not table.export_events:
            continue
        await writer.write(f'"{table.name}":[')
        comma = ""
        for day, ids in found:
            for batch in event_log.batches(ids):
                rows = await connection.fetch(
                    f"{OF_EVENTS} SELECT row_to_json(t)::text AS line FROM ({table.export_events}) t",
                    *EventRefs(request.shop_id, day, tuple(batch)).arguments,
                )
                for row in rows:
                    await writer.write(comma + row["line"])
                    comma = ","
        await writer.write("],")


async def _write_events(
    writer: ExportWriter, connection: SessionConnection, found: Sequence[tuple[date, Sequence[int]]]
) -> None:
    comma = ""
    async for day, _, rows in event_log.read_events(connection, found):
        for row in rows:
            payload = row.pop("payload")
            assert isinstance(payload, bytes)
            line = orjson.dumps({"day": day, **row, **_payload(payload)}).decode()
            await writer.write(comma + line)
            comma = ","


def _payload(payload: bytes) -> dict[str, object]:
    """Return a payload as JSON where it is some, and else so that none of its bytes is lost."""
    try:
        return {"payload": orjson.Fragment(payload) if orjson.loads(payload) is not None else None}
    except orjson.JSONDecodeError:
        return {"payload_base64": base64.b64encode(payload).decode()}


@dataclass(frozen=True, slots=True)
class Export:
    """A file that is there: of which request, and in how many parts."""

    request: Request
    parts: int


async def find_export(connection: Connection, request_id: int) -> Export:
    """Return the file of a data request, as far as the login sees it.

    Raises
    ------
    NotFoundError
        If there is no such request, or no file of it (yet, or any more).
    """
    request = await store.find_request(connection, request_id)
    parts = await connection.fetchval("SELECT count(*) FROM compliance_exports WHERE request_id = $1", request_id)
    if request.kind is not Kind.DATA_REQUEST or request.finished_at is None or not parts:
        raise _no_file(request)
    return Export(request, parts)


async def read_part(connection: Connection, vault: Vault, export: Export, part: int) -> str:
    """Return one part of a file; parts may be read in transactions of their own.

    Raises
    ------
    NotFoundError
        If the file was deleted meanwhile.
    """
    request = export.request
    sealed = await connection.fetchval(
        "SELECT sealed FROM compliance_exports WHERE request_id = $1 AND part = $2", request.request_id, part
    )
    if sealed is None:
        raise _no_file(request)
    return await vault.open(connection, sealed, shop_id=request.shop_id, purpose=_purpose(request.request_id, part))


async def read_export(connection: Connection, vault: Vault, request_id: int) -> AsyncIterator[str]:
    """Yield the file of a data request in parts; raises as `find_export` and `read_part` do."""
    export = await find_export(connection, request_id)
    for part in range(export.parts):
        yield await read_part(connection, vault, export, part)


def _no_file(request: Request) -> NotFoundError:
    return NotFoundError(f"request {request.request_id} has no file: {_why_none(request)}")


def _why_none(request: Request) -> str:
    if request.kind is not Kind.DATA_REQUEST:
        return "it does not ask for data"
    if request.finished_at is None:
        return "it is not done yet"
    return request.reason or "it was kept for the time that was set, and is deleted"


async def expire_exports(connection: SessionConnection) -> int:
    """Delete the files whose time is over, and whom they were about; return how many there were."""
    rows = await connection.fetch(
        """
        WITH expired AS (
            UPDATE compliance_requests SET expires_at = NULL, subject = NULL WHERE expires_at < clock_timestamp()
            RETURNING request_id
        ), deleted AS (
            DELETE FROM compliance_exports e USING expired x WHERE e.request_id = x.request_id
        )
        SELECT request_id FROM expired
        """
    )
    return len(rows)
