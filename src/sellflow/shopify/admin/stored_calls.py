"""Mutations: stored with their key before they are sent, and sent until it is known what became of them.

A key is sent again only while its outcome is ambiguous. Whoever wants a call done may ask for it as often as it likes,
from any process: a purpose has one call, one process at a time sends it, and one that died is succeeded by another.
What Shopify knows no keys for is sent once; should its outcome be unknown, the caller has to find out and say so.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import orjson
import structlog
from prometheus_client import Counter
from pydantic import BaseModel

from sellflow.errors import NotFoundError, PermanentError, SellflowError, TryLaterError
from sellflow.postgres.database import Connection
from sellflow.secrets import Vault
from sellflow.shopify.admin import stored_store as store
from sellflow.shopify.admin.client import AdminClient, Query, read_as
from sellflow.shopify.admin.errors import AdminError, Effect
from sellflow.shopify.admin.stored_rules import CallState, Complaint, Verdict, of_data, of_error
from sellflow.shopify.admin.stored_store import NewCall, StoredCall
from sellflow.shopify.admin.throttle import Urgency
from sellflow.shopify.documents.document import KEY_VARIABLE, Document

log = structlog.get_logger(__name__)

T = TypeVar("T", bound=BaseModel)

stored_calls_total = Counter(
    "sellflow_shopify_stored_calls_total", "Attempts at stored calls by what came of them.", ["document", "verdict"]
)

#: Attempts in one go; after that the caller comes back later. Waits between them are random, up to doubled FIRST_WAIT.
ATTEMPTS = 3
FIRST_WAIT = 0.5
#: Seconds after which a call that is still open is worth another go.
COME_BACK_AFTER = 5.0
#: Keys that Shopify may spoil for one call before that is a fault.
MOST_KEYS = 10


class CallFailedError(PermanentError):
    """Shopify refused a change; nothing was done. `complaints` says why, `codes` in its own words."""

    code = "shopify.call_failed"

    def __init__(self, message: str, complaints: Sequence[Complaint] = ()) -> None:
        super().__init__(message)
        self.complaints = tuple(complaints)

    @property
    def codes(self) -> frozenset[str]:
        """The codes of all complaints."""
        return frozenset(each.code for each in self.complaints)


class KeyMismatchError(CallFailedError):
    """Shopify knows the key of a stored call from another one, which is a fault of ours."""

    code = "shopify.key_mismatch"


class OutcomeUnknownError(PermanentError):
    """A change may have been made or not, and sending it again could make it twice: find out, then `settle` it."""

    code = "shopify.outcome_unknown"


class StillOpenError(TryLaterError):
    """It is not known yet what became of a change: somebody is sending it, or Shopify gives no answer."""

    code = "shopify.still_open"


class _NotOursError(Exception):
    """A call may not be sent (any more) by who wanted to."""


@dataclass(frozen=True)
class Wish(Generic[T]):
    """A change that is wanted.

    `purpose` names it for good: asked for again, in whatever way, it is the same change. `subject` says whom it is
    about, such as "customer:42", and has to be given where the variables name a person.
    """

    document: Document[T]
    variables: Mapping[str, object] = field(repr=False)
    purpose: str
    subject: str | None = None


class StoredCalls:
    """Stores and sends changes."""

    def __init__(self, client: AdminClient, vault: Vault) -> None:
        self._client = client
        self._vault = vault

    async def store(self, connection: Connection, shop_id: int, wish: Wish[Any]) -> bool:
        """Store a change in the caller's transaction; False where its purpose has been stored before."""
        return await store.add_call(connection, await self._sealed(connection, shop_id, wish))

    async def store_anew(self, connection: Connection, shop_id: int, wish: Wish[Any]) -> bool:
        """Store a change that failed or ended unknown once more, with a new key; False where it did not."""
        return await store.begin_anew(connection, await self._sealed(connection, shop_id, wish))

    async def settle(self, connection: Connection, shop_id: int, wish: Wish[T], *, result: T | None) -> bool:
        """Say what was found out about a change that ended unknown: its result, or None where it was not made."""
        state = CallState.FAILED if result is None else CallState.SUCCEEDED
        answer = None
        if result is not None:
            data = {"data": result.model_dump(mode="json", by_alias=True)}
            answer = await self._seal(connection, shop_id, wish.purpose, "answer", data)
        return await store.settle_call(connection, shop_id, wish.purpose, state, answer)

    async def call(self, shop_id: int, wish: Wish[T], *, urgency: Urgency = Urgency.BACKGROUND) -> T:
        """Store a change in a transaction of its own, and make it; as `perform`."""
        async with self._client.transactions(shop_id) as connection:
            await self.store(connection, shop_id, wish)
        return await self.perform(shop_id, wish.document, wish.purpose, urgency=urgency)

    async def perform(
        self, shop_id: int, document: Document[T], purpose: str, *, urgency: Urgency = Urgency.BACKGROUND
    ) -> T:
        """Make a stored change, or find out what became of it, and return Shopify's answer.

        Raises
        ------
        CallFailedError
            If Shopify refused it; nothing was done.
        OutcomeUnknownError
            If nobody can know by sending it again.
        StillOpenError
            If it is not known yet: ask again in so many seconds.
        AdminError
            If it could not be sent at all; nothing was done, so that it may be asked for again.
        NotFoundError
            If nothing of that purpose was stored.
        """
        failures = 0
        while True:
            call = await self._find(shop_id, purpose)
            if call.state.is_finished:
                return await self._result(shop_id, document, call)
            if call.held_for > 0:
                raise StillOpenError(
                    f"another process is sending {purpose}", seconds=min(call.held_for, COME_BACK_AFTER)
                )
            if call.state is not CallState.STORED and not call.is_idempotent:
                await self._give_up(shop_id, call)
                continue
            verdict, error = await self._attempt(shop_id, document, call, urgency)
            if verdict is Verdict.AMBIGUOUS or verdict is Verdict.UNTOUCHED:
                failures += 1
                await self._wait_or_raise(call, verdict, error, failures)

    async def _attempt(
        self, shop_id: int, document: Document[Any], call: StoredCall, urgency: Urgency
    ) -> tuple[Verdict | None, AdminError | None]:
        """Send a call once and write down what came of it; None where it was not to be sent."""
        sender = _Sender(self, shop_id, call)
        query = Query(shop_id, document, await self._variables(shop_id, call), call.query)
        try:
            data = await self._client.ask(
                query, urgency=urgency, patience=self._client.patience(urgency), before=sender.begin
            )
        except _NotOursError:
            await self._give_up(shop_id, call)
            return None, None
        except AdminError as error:
            verdict, complaints = of_error(error)
            await sender.record(verdict, complaints, data=None)
            return verdict, error
        except SellflowError as error:  # there is no token (any more): Shopify did not look at the call
            await sender.record(Verdict.UNTOUCHED, [Complaint(error.code, str(error))], data=None)
            raise
        verdict, complaints = of_data(data)
        await sender.record(verdict, complaints, data=data)
        return verdict, None

    async def _give_up(self, shop_id: int, call: StoredCall) -> None:
        """Leave a call alone that may not be sent again; where another process has it, that is for it to say."""
        async with self._client.transactions(shop_id) as connection:
            await store.give_up_call(connection, shop_id, call.call_id)

    async def _wait_or_raise(self, call: StoredCall, verdict: Verdict, error: AdminError | None, failures: int) -> None:
        """Wait before the next attempt, or leave it to the caller when to go on."""
        if error is not None and error.effect is Effect.NONE and not error.is_passing:
            raise error
        if verdict is Verdict.AMBIGUOUS and not call.is_idempotent:
            return  # it will not be sent again
        if failures >= ATTEMPTS:
            if verdict is Verdict.UNTOUCHED and error is not None:
                raise error
            raise StillOpenError(f"Shopify does not say what became of {call.purpose}", seconds=COME_BACK_AFTER)
        await asyncio.sleep(random.uniform(0.1, FIRST_WAIT * 2**failures))  # noqa: S311 - jitter, not a secret

    async def _result(self, shop_id: int, document: Document[T], call: StoredCall) -> T:
        """Return what a finished call came to, or raise it."""
        if call.state is CallState.UNKNOWN:
            raise OutcomeUnknownError(
                f"nobody knows whether {call.purpose} ({call.document}) was done: look it up in Shopify and settle it"
            )
        answer = await self._answer(shop_id, call)
        if call.state is CallState.FAILED:
            complaints = [Complaint(**each) for each in answer.get("complaints", ())]
            said = "; ".join(each.message for each in complaints) or "it was not made"
            kind = KeyMismatchError if call.error_code == Verdict.MISMATCH.value else CallFailedError
            raise kind(f"Shopify refused {call.purpose} ({call.document}): {said}", complaints)
        if not answer:
            raise NotFoundError(f"{call.purpose} was done, and what Shopify answered has been erased since")
        return read_as(document, answer["data"])

    async def _find(self, shop_id: int, purpose: str) -> StoredCall:
        async with self._client.transactions(shop_id) as connection:
            call = await store.find_call(connection, shop_id, purpose)
        if call is None:
            raise NotFoundError(f"no change is stored under {purpose}")
        return call

    async def _sealed(self, connection: Connection, shop_id: int, wish: Wish[Any]) -> NewCall:
        if not wish.document.is_mutation:
            raise TypeError(f"{wish.document.name} changes nothing: fetch it")
        return NewCall(
            shop_id=shop_id,
            purpose=wish.purpose,
            subject=wish.subject,
            document=wish.document.name,
            query=wish.document.text,
            variables=await self._seal(connection, shop_id, wish.purpose, "variables", wish.variables),
            is_idempotent=wish.document.is_idempotent,
        )

    async def _seal(self, connection: Connection, shop_id: int, purpose: str, part: str, value: object) -> bytes:
        plain = orjson.dumps(value, default=str).decode()
        return await self._vault.seal(connection, plain, shop_id=shop_id, purpose=f"admin_calls/{purpose}/{part}")

    async def _variables(self, shop_id: int, call: StoredCall) -> dict[str, Any]:
        assert call.variables is not None, "an open call has its variables"
        variables = await self._open(shop_id, call.purpose, "variables", call.variables)
        return {**variables, KEY_VARIABLE: str(call.key)} if call.is_idempotent else variables

    async def _answer(self, shop_id: int, call: StoredCall) -> dict[str, Any]:
        return {} if call.answer is None else await self._open(shop_id, call.purpose, "answer", call.answer)

    async def _open(self, shop_id: int, purpose: str, part: str, sealed: bytes) -> dict[str, Any]:
        async with self._client.transactions(shop_id) as connection:
            plain = await self._vault.open(connection, sealed, shop_id=shop_id, purpose=f"admin_calls/{purpose}/{part}")
        found: dict[str, Any] = orjson.loads(plain)
        return found


class _Sender:
    """One attempt at a call: takes it before it is sent, and writes down what came of it."""

    def __init__(self, calls: StoredCalls, shop_id: int, call: StoredCall) -> None:
        self._calls = calls
        self._transactions = calls._client.transactions  # noqa: SLF001 - a part of it
        self._hold = calls._client.lifetime  # noqa: SLF001
        self._shop_id = shop_id
        self._call = call
        self._attempt: int | None = None

    async def begin(self) -> None:
        """Take the call; a second time, for a token that was renewed, keep it."""
        async with self._transactions(self._shop_id) as connection:
            if self._attempt is None:
                self._attempt = await store.begin_attempt(connection, self._shop_id, self._call, seconds=self._hold)
                is_ours = self._attempt is not None
            else:
                is_ours = await store.extend_attempt(
                    connection, self._shop_id, self._call.call_id, self._attempt, seconds=self._hold
                )
        if not is_ours:
            raise _NotOursError

    async def record(self, verdict: Verdict, complaints: Sequence[Complaint], *, data: dict[str, Any] | None) -> None:
        """Write down what came of the attempt, if there was one."""
        if self._attempt is None:
            return
        stored_calls_total.labels(self._call.document, verdict.value).inc()
        code = next((each.code or "refused" for each in complaints), None)
        held = self._shop_id, self._call.call_id, self._attempt
        async with self._transactions(self._shop_id) as connection:
            if verdict in {Verdict.AMBIGUOUS, Verdict.UNTOUCHED}:
                is_ambiguous = verdict is Verdict.AMBIGUOUS
                await store.end_attempt(connection, *held, is_ambiguous=is_ambiguous, error_code=code)
            elif verdict is Verdict.NEW_KEY and self._call.keys_used < MOST_KEYS:
                await store.change_key(connection, *held)
            else:
                await self._finish(connection, verdict, complaints, data)
        log.info(
            "shopify.stored_call",
            shop_id=self._shop_id,
            call_id=self._call.call_id,
            document=self._call.document,
            verdict=verdict.value,
            attempt=self._attempt,
            code=code,
        )

    async def _finish(
        self, connection: Connection, verdict: Verdict, complaints: Sequence[Complaint], data: dict[str, Any] | None
    ) -> None:
        assert self._attempt is not None
        said = [{"code": each.code, "message": each.message, "field": each.field} for each in complaints]
        answer = await self._calls._seal(  # noqa: SLF001
            connection, self._shop_id, self._call.purpose, "answer", {"data": data, "complaints": said}
        )
        code = next((each.code or "refused" for each in complaints), None)
        await store.finish_attempt(
            connection,
            self._shop_id,
            self._call.call_id,
            self._attempt,
            state=CallState.SUCCEEDED if verdict is Verdict.SUCCEEDED else CallState.FAILED,
            answer=answer,
            error_code=Verdict.MISMATCH.value if verdict is Verdict.MISMATCH else code,
        )
