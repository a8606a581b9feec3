"""Idempotency keys: a POST that is sent again is answered again, and done once.

After the IETF's draft-ietf-httpapi-idempotency-key-header: the same key with the same request gets the stored answer,
with another request 422, while the first is under way 409. What the route does and its stored answer are one
transaction, so a crash leaves both or neither. A request that failed stored nothing, and may be sent again.

The key itself is not stored, and the answer is sealed: it may hold a secret that is shown once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated

from fastapi import Depends, Header, Request
from pydantic import BaseModel
from starlette.responses import Response

from sellflow.edge.callers import Caller
from sellflow.edge.problems import Problem
from sellflow.edge.pruning import KEPT_HOURS
from sellflow.postgres.database import Connection
from sellflow.secrets import Vault

REPLAYED_HEADER = "idempotency-replayed"
LONGEST_KEY = 255

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="Any text of your choice, best a UUID: sent again with it within 24 hours, the request is answered "
        "as it was the first time and nothing is done twice.",
    ),
]


@dataclass(frozen=True, slots=True)
class AboutCustomer:
    """An answer that tells of a customer, or lets whoever has it act for them: it is deleted when they are erased."""

    answer: BaseModel | None
    customer_id: int


#: Does a route's work in the transaction and returns its answer, or None for one without a body.
Work = Callable[[Connection], Awaitable[BaseModel | AboutCustomer | None]]


@dataclass(frozen=True, slots=True)
class Once:
    """One POST, and the key it came with, if it came with one."""

    route: str
    fingerprint: bytes
    key: str | None
    vault: Vault

    async def run(
        self,
        caller: Caller,
        transaction: AbstractAsyncContextManager[Connection],
        work: Work,
        *,
        status: int = 200,
    ) -> Response:
        """Do the work and return its answer, or return the answer that it had before.

        `work` is all that the route changes: what leaves this database goes through a queue or a stored call.

        Raises
        ------
        Problem
            409 while the same key is being worked on, 422 when it belongs to another request; and what `work` raises.
        """
        async with transaction as connection:
            if self.key is None:
                return _response(status, _read(await work(connection))[0])
            await self._claim(connection, caller, self.key)
            stored = await self._find(connection, caller, self.key)
            if stored is not None:
                return stored
            body, customer_id = _read(await work(connection))
            await self._store(connection, caller, self.key, status=status, body=body, customer_id=customer_id)
        return _response(status, body)

    async def _claim(self, connection: Connection, caller: Caller, key: str) -> None:
        """Hold the key to the end of the transaction; a process that dies lets it go."""
        parts = "\0".join((str(caller.shop_id), caller.name, self.route, key))
        number = int.from_bytes(sha256(parts.encode()).digest()[:8], signed=True)
        if not await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", number):
            detail = "A request with this Idempotency-Key is under way: wait for its answer, or ask again for it."
            raise Problem(409, "idempotency.in_progress", detail, headers=[("retry-after", "1")])

    async def _find(self, connection: Connection, caller: Caller, key: str) -> Response | None:
        row = await connection.fetchrow(
            """
            SELECT fingerprint, status, answer FROM idempotency_keys
            WHERE shop_id IS NOT DISTINCT FROM $1 AND caller = $2 AND route = $3 AND key_hash = $4
              AND created_at > clock_timestamp() - make_interval(hours => $5)
            """,
            caller.shop_id,
            caller.name,
            self.route,
            _hash(key),
            KEPT_HOURS,
        )
        if row is None:
            return None
        if row["fingerprint"] != self.fingerprint:
            detail = "This Idempotency-Key came with another request before: use a new key for a new request."
            raise Problem(422, "idempotency.key_reused", detail)
        body = await self.vault.open(connection, row["answer"], shop_id=caller.shop_id, purpose=_purpose(key))
        return _response(row["status"], body.encode(), {REPLAYED_HEADER: "true"})

    async def _store(
        self, connection: Connection, caller: Caller, key: str, *, status: int, body: bytes, customer_id: int | None
    ) -> None:
        answer = await self.vault.seal(connection, body.decode(), shop_id=caller.shop_id, purpose=_purpose(key))
        await connection.execute(
            """
            INSERT INTO idempotency_keys (shop_id, caller, route, key_hash, fingerprint, status, answer, customer_id)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
            ON CONFLICT (shop_id, caller, route, key_hash) DO UPDATE
            SET fingerprint = EXCLUDED.fingerprint, status = EXCLUDED.status, answer = EXCLUDED.answer,
                customer_id = EXCLUDED.customer_id, created_at = clock_timestamp()
            """,
            caller.shop_id,
            caller.name,
            self.route,
            _hash(key),
            self.fingerprint,
            status,
            answer,
            customer_id,
        )


async def once(request: Request, idempotency_key: IdempotencyKey = None) -> Once:
    """Return the request as one to be done once (a FastAPI dependency for every POST)."""
    body = await request.body()
    address = f"{request.method} {request.url.path}?{request.url.query}\n"
    route = f"{request.method} {request.scope['route'].path}"
    fingerprint = sha256(address.encode() + body).digest()
    return Once(route, fingerprint, _checked(idempotency_key), request.app.state.vault)


CurrentRequest = Annotated[Once, Depends(once)]


def _checked(key: str | None) -> str | None:
    """Return the key without the quotes that the draft's structured field has, and many clients leave out."""
    if key is None:
        return None
    text = key[1:-1] if len(key) > 1 and key[0] == key[-1] == '"' else key
    if not text or len(text) > LONGEST_KEY or not text.isascii() or not text.isprintable() or '"' in text:
        detail = f"Idempotency-Key is text of 1 to {LONGEST_KEY} plain characters, best a UUID."
        raise Problem(400, "idempotency.invalid_key", detail)
    return text


def _hash(key: str) -> bytes:
    return sha256(key.encode()).digest()


def _purpose(key: str) -> str:
    return f"idempotency/{_hash(key).hex()}/answer"


def _read(done: BaseModel | AboutCustomer | None) -> tuple[bytes, int | None]:
    """Return the body of an answer, and the customer whom it is about."""
    answer, customer_id = (done.answer, done.customer_id) if isinstance(done, AboutCustomer) else (done, None)
    return b"" if answer is None else answer.model_dump_json().encode(), customer_id


def _response(status: int, body: bytes, headers: dict[str, str] | None = None) -> Response:
    return Response(body, status_code=status, media_type="application/json" if body else None, headers=headers)
