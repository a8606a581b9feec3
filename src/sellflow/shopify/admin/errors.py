"""What can become of a call to the Admin API. Each error says whether the call may have had its effect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from sellflow.errors import PermanentError, SellflowError, TryLaterError


class Effect(Enum):
    """Whether a call that failed did what it was to do."""

    #: Shopify did not get to it.
    NONE = "none"
    #: It may have, or may do so yet.
    UNKNOWN = "unknown"
    #: Shopify looked at it, and refused it.
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class GraphQLError:
    """One of an answer's `errors`."""

    message: str
    code: str
    path: str = ""


class AdminError(SellflowError):
    """A call to the Admin API failed.

    `is_passing` says whether the same call may well succeed a little later.
    """

    code = "shopify.failed"
    effect: ClassVar[Effect] = Effect.NONE
    is_passing: ClassVar[bool] = False
    #: Whether Shopify seems to be out of order, so that a shop is left alone after several of these.
    is_outage: ClassVar[bool] = False


class ThrottledError(AdminError, TryLaterError):
    """The shop's points are spent, by somebody else: Shopify refused the call."""

    code = "shopify.throttled"
    is_passing = True


class NoTurnError(ThrottledError):
    """The shop's points are spent for longer than the caller wants to wait; nothing was sent."""

    is_passing = False


class TooManyRequestsError(AdminError, TryLaterError):
    """Shopify answered 429: it wants to be left alone for so many `seconds`."""

    code = "shopify.too_many_requests"
    is_passing = True


class UnavailableError(AdminError, TryLaterError):
    """Shopify did not answer properly several times in a row, so this shop is left alone for so many `seconds`."""

    code = "shopify.unavailable"


class NoConnectionError(AdminError):
    """There was no connection; nothing was sent."""

    code = "shopify.no_connection"
    is_passing = True
    is_outage = True


class NoAnswerError(AdminError):
    """No answer came, or none that can be understood: nobody knows what Shopify did."""

    code = "shopify.no_answer"
    effect = Effect.UNKNOWN
    is_passing = True
    is_outage = True


class ServerError(NoAnswerError):
    """Shopify answered 5xx."""

    code = "shopify.server_error"


class InternalError(NoAnswerError):
    """Shopify is there, and failed inside at this very query."""

    code = "shopify.internal_error"
    is_outage = False


class RedirectedError(AdminError):
    """Shopify pointed elsewhere: a token is not sent there."""

    code = "shopify.redirected"


class UnauthorizedError(AdminError):
    """Shopify refuses the token, also after it was renewed."""

    code = "shopify.unauthorized"


class ShopClosedError(AdminError):
    """The shop is frozen (402), locked (423) or gone (404): its merchant or Shopify must open it again."""

    code = "shopify.shop_closed"


class RequestRefusedError(AdminError, PermanentError):
    """Shopify refuses the request itself, with a 4xx that no retry can change."""

    code = "shopify.request_refused"
    effect = Effect.REFUSED


class QueryRefusedError(AdminError, PermanentError):
    """Shopify refuses the query: the document or its variables are wrong. `errors` says how."""

    code = "shopify.query_refused"
    effect = Effect.REFUSED

    def __init__(self, message: str, errors: Sequence[GraphQLError] = ()) -> None:
        super().__init__(message)
        self.errors = tuple(errors)


class AccessDeniedError(QueryRefusedError):
    """The app lacks a scope for this, or Shopify's leave to read protected customer data."""

    code = "shopify.access_denied"


class TooExpensiveError(QueryRefusedError):
    """A single query would cost more than Shopify allows: ask for smaller pages."""

    code = "shopify.too_expensive"


class UnexpectedAnswerError(AdminError, PermanentError):
    """The answer has not the shape that the document promises, so that nothing can be read from it."""

    code = "shopify.unexpected_answer"
    effect = Effect.UNKNOWN
