"""Calls the Admin API of shops: within their points, again where that is safe, and into models."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

import orjson
import structlog
from prometheus_client import Counter, Histogram
from pydantic import BaseModel, ValidationError

from sellflow.errors import TryLaterError
from sellflow.postgres.transactions import Transactions
from sellflow.settings import Settings
from sellflow.shopify.admin.answers import Cost, Reply, read_answer
from sellflow.shopify.admin.cost import Estimates
from sellflow.shopify.admin.errors import (
    AdminError,
    Effect,
    NoAnswerError,
    NoConnectionError,
    ThrottledError,
    TooManyRequestsError,
    UnauthorizedError,
    UnexpectedAnswerError,
)
from sellflow.shopify.admin.throttle import Throttle, Urgency
from sellflow.shopify.admin.throttle_store import Settlement
from sellflow.shopify.admin.transport import Transport
from sellflow.shopify.documents.document import Document
from sellflow.shopify.tokens.models import Access

log = structlog.get_logger(__name__)

T = TypeVar("T", bound=BaseModel)

calls_total = Counter(
    "sellflow_shopify_calls_total", "Calls to the Admin API by what came of them.", ["document", "result"]
)
call_seconds = Histogram("sellflow_shopify_seconds", "Seconds until Shopify answered.", ["document"])

#: Times that a query is asked before its error is the caller's; waits are random, up to FIRST_WAIT doubled each time.
ATTEMPTS = 4
FIRST_WAIT = 0.25
#: A query that Shopify throttles all the same is asked this often: its books and ours meet at the first answer.
THROTTLED_ATTEMPTS = 8
#: Seconds by which a call may outlive its limit before its process is taken to be dead.
SLACK = 15.0


class Tokens(Protocol):
    """Where access tokens come from (`sellflow.shopify.tokens.AccessTokens`)."""

    async def get(self, shop_id: int) -> Access:
        """Return a token to use."""

    async def renew(self, shop_id: int, refused_token: str) -> Access:
        """Return another than the one that was refused."""


@dataclass(frozen=True, slots=True)
class Query:
    """One call: what is sent, and what it probably costs. Its variables are shown nowhere."""

    shop_id: int
    document: Document[Any]
    variables: Mapping[str, object] = field(repr=False)
    text: str = field(repr=False)

    @property
    def body(self) -> bytes:
        """The body of the request."""
        return orjson.dumps({"query": self.text, "variables": self.variables})


#: What is to be done after points were taken and before anything is sent: what it raises keeps the call from going.
Before = Callable[[], Awaitable[None]]


class AdminClient:
    """Calls shops' Admin APIs under whichever login `transactions` is of; one to a process, to be closed at its end."""

    def __init__(self, *, transactions: Transactions, tokens: Tokens, settings: Settings) -> None:
        self.transactions = transactions
        self._tokens = tokens
        self._settings = settings
        self._estimates = Estimates()
        self._transport = Transport(api_version=settings.shopify_api_version, timeout=settings.shopify_timeout)
        #: Seconds after which a call that nobody told the end of has died with its process.
        self.lifetime = settings.shopify_timeout + SLACK
        self._throttle = Throttle(transactions, reserve=settings.shopify_foreground_reserve, lifetime=self.lifetime)

    @property
    def transport(self) -> Transport:
        """The connections, for files that Shopify points to."""
        return self._transport

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    def patience(self, urgency: Urgency) -> float:
        """Return the seconds that a call may wait for its turn."""
        if urgency is Urgency.FOREGROUND:
            return self._settings.shopify_foreground_patience
        return self._settings.shopify_background_patience

    async def fetch(
        self,
        shop_id: int,
        document: Document[T],
        variables: Mapping[str, object] | None = None,
        *,
        urgency: Urgency = Urgency.FOREGROUND,
    ) -> T:
        """Ask a shop a query, several times if need be, and return the answer.

        Raises
        ------
        AdminError
            If there is none: its class and code say why.
        NotInstalledError
            If the shop removed the app, or has no token.
        """
        if document.is_mutation:
            raise TypeError(f"{document.name} changes something: it is sent by a stored call alone")
        query = Query(shop_id, document, variables or {}, document.text)
        deadline = time.monotonic() + self.patience(urgency)
        attempt = 0
        while True:
            attempt += 1
            try:
                return read_as(document, await self.ask(query, urgency=urgency, patience=deadline - time.monotonic()))
            except AdminError as error:
                wait = wait_before_next(error, attempt)
                if wait is None or time.monotonic() + wait > deadline:
                    raise
            await asyncio.sleep(wait)

    async def ask(
        self, query: Query, *, urgency: Urgency, patience: float, before: Before | None = None
    ) -> dict[str, Any]:
        """Make one call and return its data; of a refused token, one more with another.

        Raises
        ------
        AdminError
            If it failed, or its turn did not come within `patience` seconds.
        """
        access = await self._tokens.get(query.shop_id)
        reply = await self._call(query, access, urgency=urgency, patience=patience, before=before)
        if isinstance(reply.error, UnauthorizedError):
            access = await self._tokens.renew(query.shop_id, access.token)
            reply = await self._call(query, access, urgency=urgency, patience=patience, before=before)
        if reply.error is not None:
            raise reply.error
        assert reply.data is not None
        return reply.data

    async def _call(
        self, query: Query, access: Access, *, urgency: Urgency, patience: float, before: Before | None
    ) -> Reply:
        points = self._estimates.estimate(query.document, query.variables)
        async with self._throttle.spending(query.shop_id, points, urgency, patience=max(patience, 0.0)) as ticket:
            ticket.settle(Settlement(points=0))
            if before is not None:
                await before()
            ticket.settle(Settlement())  # from here on, nobody knows until there is an answer
            started = time.perf_counter()
            reply = await self._reply(query, access)
            seconds = time.perf_counter() - started
            ticket.settle(settlement_of(reply))
        self._estimates.learn(query.document, query.variables, reply.cost.requested)
        self._report(query, reply, seconds)
        return reply

    async def _reply(self, query: Query, access: Access) -> Reply:
        try:
            answer = await self._transport.post(access, query.body)
        except (NoConnectionError, NoAnswerError) as error:
            return Reply(Cost(), error=error)
        return read_answer(answer.status, answer.headers, answer.body, datetime.now(UTC))

    def _report(self, query: Query, reply: Reply, seconds: float) -> None:
        result = reply.error.code if reply.error else "answered"
        calls_total.labels(query.document.name, result).inc()
        call_seconds.labels(query.document.name).observe(seconds)
        say = log.warning if reply.error else log.debug
        say(
            "shopify.called",
            shop_id=query.shop_id,
            document=query.document.name,
            result=result,
            error=str(reply.error) if reply.error else None,
            seconds=round(seconds, 3),
            requested=reply.cost.requested,
            actual=reply.cost.actual,
            available=reply.cost.available,
        )


def read_as(document: Document[T], data: dict[str, Any]) -> T:
    """Return data as the document's model.

    Raises
    ------
    UnexpectedAnswerError
        If it has another shape.
    """
    try:
        return document.model.model_validate(data)
    except ValidationError as error:
        # Not the values: they are people's.
        places = ", ".join(".".join(map(str, each["loc"])) for each in error.errors(include_input=False)[:5])
        raise UnexpectedAnswerError(f"the answer to {document.name} is not what it promises, at {places}") from None


def settlement_of(reply: Reply) -> Settlement:
    """Return what an answer means for the books. Pure."""
    error, cost = reply.error, reply.cost
    if error is None:
        return Settlement(points=cost.actual if cost.actual is not None else cost.requested, cost=cost, failed=False)
    if isinstance(error, ThrottledError) and reply.data is None:
        # Where Shopify does not say how much there is, wait as it would have us.
        return Settlement(points=0, cost=cost, failed=False, pause=error.seconds if cost.available is None else 0)
    if isinstance(error, TooManyRequestsError):
        return Settlement(points=0, failed=False, pause=error.seconds)
    if error.effect is Effect.UNKNOWN or reply.data is not None:
        return Settlement(points=cost.actual, cost=cost, failed=error.is_outage)
    # Refused at the door, or for its words: what that costs, Shopify says, or it is nothing.
    return Settlement(points=cost.actual or 0, cost=cost, failed=error.is_outage)


def wait_before_next(error: AdminError, attempt: int) -> float | None:
    """Return the seconds before a query is asked again, None where that would not help or was tried enough."""
    if not error.is_passing:
        return None
    if isinstance(error, TryLaterError):
        # The bucket has been told: the line lets it go when there is something.
        return 0.0 if attempt < THROTTLED_ATTEMPTS else None
    if attempt >= ATTEMPTS:
        return None
    return random.uniform(0.0, FIRST_WAIT * 2**attempt)  # noqa: S311 - jitter, not a secret
