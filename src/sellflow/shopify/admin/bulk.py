"""Bulk operations: started as stored calls, looked at until they are done.

https://shopify.dev/docs/api/usage/bulk-operations/queries. Five may run at a time for an app and shop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from hashlib import sha256

from sellflow.errors import PermanentError, TryLaterError
from sellflow.shopify.admin.client import AdminClient
from sellflow.shopify.admin.stored_calls import CallFailedError, OutcomeUnknownError, StoredCalls, Wish
from sellflow.shopify.admin.throttle import Urgency
from sellflow.shopify.documents.bulk_operations import (
    BULK_OPERATION,
    BULK_OPERATION_CANCEL,
    BULK_OPERATIONS,
    BULK_QUERY_RUN,
    BulkOperation,
    BulkQueryPayload,
    BulkQueryRun,
)

#: Statuses in which an operation is still at work.
AT_WORK = frozenset({"CREATED", "RUNNING", "CANCELING"})
#: Why none can be started just now.
BUSY = frozenset({"LIMIT_REACHED", "OPERATION_IN_PROGRESS"})
BUSY_FOR = 30.0
#: Seconds between two looks: at first, and at most.
FIRST_LOOK = 1.0
LONGEST_LOOK = 15.0
#: As many of the newest operations are looked through for one whose beginning is in doubt.
NEWEST = 20

#: Is told how far an operation has come.
Progress = Callable[[BulkOperation], Awaitable[None]]


class BulkBusyError(TryLaterError):
    """The shop runs as many bulk operations as it may."""

    code = "shopify.bulk_busy"


class BulkFailedError(PermanentError):
    """A bulk operation ended without its result; `operation` says how far it came."""

    code = "shopify.bulk_failed"

    def __init__(self, message: str, operation: BulkOperation | None = None) -> None:
        super().__init__(message)
        self.operation = operation


class BulkOperations:
    """Starts bulk operations and follows them."""

    def __init__(self, client: AdminClient, calls: StoredCalls) -> None:
        self._client = client
        self._calls = calls

    async def start(self, shop_id: int, query: str, *, purpose: str) -> BulkOperation:
        """Start the operation of a purpose, once, however often it is asked for.

        `query` has its variables written into it (`Document.written_out`).

        Raises
        ------
        BulkBusyError
            If too many are running.
        CallFailedError
            If Shopify refuses the query.
        """
        mark = f"# {sha256(purpose.encode()).hexdigest()[:16]}"
        variables = {"query": f"{mark}\n{query}", "groupObjects": True}
        wish = Wish(BULK_QUERY_RUN, variables, purpose)
        try:
            answer = await self._calls.call(shop_id, wish)
        except OutcomeUnknownError:
            answer = await self._find_out(shop_id, wish, mark)
        except CallFailedError as error:
            if not error.codes & BUSY:
                raise
            await self._store_anew(shop_id, wish)
            raise BulkBusyError("the shop runs as many bulk operations as it may", seconds=BUSY_FOR) from error
        payload = answer.bulk_operation_run_query
        if payload is None or payload.bulk_operation is None:
            raise BulkFailedError(f"Shopify started nothing for {purpose}, and gave no reason")
        return payload.bulk_operation

    async def _find_out(self, shop_id: int, wish: Wish[BulkQueryRun], mark: str) -> BulkQueryRun:
        """Look for an operation that may have been started, by the mark in its query; start it if there is none."""
        listed = await self._client.fetch(shop_id, BULK_OPERATIONS, {"first": NEWEST}, urgency=Urgency.BACKGROUND)
        found = next((each for each in listed.bulk_operations.nodes if mark in each.query), None)
        if found is None:
            await self._store_anew(shop_id, wish)
            return await self._calls.perform(shop_id, wish.document, wish.purpose)
        known = BulkQueryRun(bulk_operation_run_query=BulkQueryPayload(bulk_operation=found, user_errors=()))
        async with self._client.transactions(shop_id) as connection:
            await self._calls.settle(connection, shop_id, wish, result=known)
        return known

    async def _store_anew(self, shop_id: int, wish: Wish[BulkQueryRun]) -> None:
        async with self._client.transactions(shop_id) as connection:
            await self._calls.store_anew(connection, shop_id, wish)

    async def look(self, shop_id: int, operation_id: str) -> BulkOperation:
        """Return how far an operation has come.

        Raises
        ------
        BulkFailedError
            If it ended without its result, or nobody knows it.
        """
        found = await self._client.fetch(shop_id, BULK_OPERATION, {"id": operation_id}, urgency=Urgency.BACKGROUND)
        operation = found.bulk_operation
        if operation is None:
            raise BulkFailedError(f"Shopify does not know the bulk operation {operation_id}")
        if operation.status not in {*AT_WORK, "COMPLETED"}:
            reason = operation.error_code or "no reason given"
            raise BulkFailedError(
                f"the bulk operation {operation_id} ended as {operation.status} ({reason})", operation
            )
        return operation

    async def wait(
        self,
        shop_id: int,
        operation_id: str,
        *,
        progress: Progress | None = None,
        news: asyncio.Event | None = None,
    ) -> BulkOperation:
        """Wait until an operation is done: `news` (a webhook, say) has it looked at at once. Raises as `look` does."""
        pause = FIRST_LOOK
        while True:
            operation = await self.look(shop_id, operation_id)
            if progress is not None:
                await progress(operation)
            if operation.status == "COMPLETED":
                return operation
            await _wait_for(news, pause)
            pause = min(pause * 1.5, LONGEST_LOOK)

    async def cancel(self, shop_id: int, operation_id: str) -> None:
        """Have an operation end; one that has ended already is left as it is."""
        wish = Wish(BULK_OPERATION_CANCEL, {"id": operation_id}, f"cancel:{operation_id}")
        try:
            await self._calls.call(shop_id, wish)
        except (CallFailedError, OutcomeUnknownError):
            # Whatever came of it: it ends by itself, too, and no result of it is read any more.
            return


async def _wait_for(news: asyncio.Event | None, seconds: float) -> None:
    if news is None:
        await asyncio.sleep(seconds)
        return
    try:
        async with asyncio.timeout(seconds):
            await news.wait()
        news.clear()
    except TimeoutError:
        return
