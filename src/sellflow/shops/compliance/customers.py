"""The erasure of a customer: twice over, so that what was under way the first time is found the second."""

from __future__ import annotations

from sellflow.errors import SellflowError
from sellflow.shops.compliance import store
from sellflow.shops.compliance.erasure import Erasure, keys_of, subject_of
from sellflow.shops.compliance.models import Person, Request, State
from sellflow.shops.compliance.redaction import traits_of
from sellflow.shops.compliance.tombstones import tombstone


class UnsettledError(SellflowError):
    """Transactions from before the first pass are still open: what they write may not be seen yet."""

    code = "compliance.unsettled"


async def erase_customer(work: Erasure, request: Request, *, key: bytes, settle_seconds: float) -> None:
    """Take the next step of a customer's erasure: the first pass, or the second and the end.

    Raises
    ------
    UnsettledError
        If it is too early for the second pass.
    """
    if request.state is State.SETTLING:
        await ensure_settled(work, request)
    # Whoever was forgotten already was erased: what is left is to say so.
    if request.person is not None:
        await _erase(work, request, request.person, key)
        if request.state is not State.SETTLING:
            await store.settle(work.connection, request.request_id, seconds=settle_seconds)
            return
        await _forget(work, request, request.person)
    await work.vacuum()
    await store.finish(work.connection, request.request_id)


async def ensure_settled(work: Erasure, request: Request) -> None:
    """Make sure that every transaction has ended that may not have seen the first pass.

    Raises
    ------
    UnsettledError
        If one has not.
    """
    if request.fence and not await store.is_past(work.connection, request.fence):
        raise UnsettledError("a transaction from before the first pass is still open")


async def _erase(work: Erasure, request: Request, person: Person, key: bytes) -> None:
    subject = subject_of(request.shop_id or 0, person)
    if request.shop_id is not None:
        subject = await work.find_orders(subject)
        hashes = [tombstone(key, request.shop_id, about) for about in sorted(keys_of(subject))]
        await store.add_tombstones(work.connection, request.shop_id, hashes)
        await work.erase_tables(subject)
    await work.erase_log(request.scope, subject, traits_of(person))


async def _forget(work: Erasure, request: Request, person: Person) -> None:
    """Strip the webhook that asked for it, which names the customer, too; and take them out of requests."""
    subject = subject_of(request.shop_id or 0, person)
    await work.erase_events(request.scope, request.source_day, [request.source_event_id], subject)
    async with work.connection.transaction():
        exported = await store.forget_person(work.connection, request)
        await work.note({"compliance_exports": exported, "compliance_requests": 1})
