"""When a delivery is tried again, given up or held, and when an endpoint is paused: pure arithmetic and comparison."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import orjson

from sellflow.errors import ConfigurationError, InvalidPayloadError, PermanentError, SellflowError, TryLaterError
from sellflow.queue.outgoing.models import Answer, Attempt, DeliveryState, Health, Listener, Parcel
from sellflow.queue.retries import RetryPolicy
from sellflow.queue.topics import matches

#: One for each delivery: what the queue carries.
DELIVERY_DUE = "outgoing.delivery"
#: Goes to the one endpoint that it names.
ENDPOINT_TEST = "queue.endpoint_test"
ENDPOINT_PAUSED = "queue.endpoint_paused"

#: Waits of 10 s, 20 s, 40 s … up to 4 h, a fifth of each left to chance: from 26.9 to 33.7 hours in all.
RETRIES = RetryPolicy(attempts=19, base=5.0, cap=4 * 3600.0, least=0.8)

#: An endpoint is paused when it took nothing for so long and failed so often in a row. Sooner than deliveries are
#: given up, so that an endpoint which is away altogether loses none.
PAUSED_AFTER = timedelta(hours=12)
PAUSED_AFTER_FAILURES = 10


class RefusedError(SellflowError):
    """The endpoint answered, and did not take the delivery."""

    code = "outgoing.refused"


class EndpointGoneError(SellflowError):
    """The endpoint answered 410: it wants nothing any more."""

    code = "outgoing.endpoint_gone"


class EventForgottenError(PermanentError):
    """The event is no longer in the log, so there is nothing to send."""

    code = "outgoing.event_forgotten"


@dataclass(frozen=True, slots=True)
class Audience:
    """Whom an event is meant for, beyond the topics that endpoints subscribed to."""

    only_endpoint: int | None = None
    services_alone: bool = False


def subscribable(topics: Iterable[str]) -> list[str]:
    """Return those of the declared topics that an endpoint may subscribe to."""
    return sorted(topic for topic in topics if topic not in (DELIVERY_DUE, ENDPOINT_TEST))


def check_patterns(patterns: Iterable[str], topics: Iterable[str]) -> list[str]:
    """Return the patterns in order, each once.

    Raises
    ------
    ConfigurationError
        If there is none, or one that matches no topic which can be subscribed to.
    """
    chosen = sorted({pattern.strip() for pattern in patterns})
    known = subscribable(topics)
    for pattern in chosen:
        if not any(matches(pattern, topic) for topic in known):
            raise ConfigurationError(f"no topic matches {pattern!r}; there are: {', '.join(known)}")
    if not chosen:
        raise ConfigurationError(f"an endpoint subscribes to at least one topic; there are: {', '.join(known)}")
    return chosen


def is_told(listener: Listener, *, topic: str, shop_id: int, audience: Audience) -> bool:
    """Say whether an endpoint is told of an event."""
    if listener.shop_id not in (None, shop_id):
        return False
    if audience.only_endpoint is not None:
        return listener.endpoint_id == audience.only_endpoint
    if audience.services_alone and listener.shop_id is not None:
        return False
    return topic in subscribable([topic]) and any(matches(pattern, topic) for pattern in listener.topics)


def webhook_id(parcel: Parcel) -> str:
    """Return the id that a receiver tells repetitions by: the same for every attempt and replay.

    The time is part of it, since a database that was restored gives out ids again.
    """
    received = int(parcel.received_at.timestamp()) if parcel.received_at else 0
    return f"msg_{received}_{parcel.event_id}"


def body(parcel: Parcel) -> bytes:
    """Return what is sent: type, timestamp and data as Standard Webhooks suggests, and the shop.

    Raises
    ------
    EventForgottenError
        If the event is no longer in the log.
    InvalidPayloadError
        If its payload is no JSON.
    """
    if parcel.payload is None or parcel.received_at is None:
        raise EventForgottenError(f"the event {parcel.event_id} is no longer in the log")
    try:
        orjson.loads(parcel.payload)
    except orjson.JSONDecodeError as error:
        raise InvalidPayloadError(f"the payload of event {parcel.event_id} is no JSON: {error}") from None
    return orjson.dumps(
        {
            "type": parcel.topic,
            "timestamp": parcel.received_at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            "shop": parcel.shop_domain,
            "data": orjson.Fragment(parcel.payload),
        }
    )


def verdict(answer: Answer, now: datetime) -> SellflowError | None:
    """Return what is wrong with an answer; None where the endpoint took the delivery. Redirects are not followed."""
    if 200 <= answer.status < 300:
        return None
    if answer.status == 410:
        return EndpointGoneError("the endpoint answered 410: it wants nothing any more")
    seconds = wait_asked_for(answer.retry_after, now)
    if answer.status in (429, 503) and seconds is not None:
        return TryLaterError(f"the endpoint answered {answer.status} and asked for {seconds:g} s", seconds=seconds)
    hint = "; redirects are not followed" if 300 <= answer.status < 400 else ""
    return RefusedError(f"the endpoint answered {answer.status}{hint}")


def wait_asked_for(retry_after: str | None, now: datetime) -> float | None:
    """Return the seconds that a Retry-After header asks for (RFC 9110: seconds or a date); None where it is neither."""
    text = (retry_after or "").strip()
    if text.isascii() and text.isdigit():
        return float(min(int(text[:9]), 10**8))
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (when.replace(tzinfo=when.tzinfo or UTC) - now).total_seconds())


def state_after(attempt: Attempt) -> DeliveryState:
    """Return where a delivery stands after an attempt. A test is tried once."""
    if attempt.error is None:
        return DeliveryState.DELIVERED
    is_last = attempt.parcel.round + 1 >= RETRIES.attempts
    if is_last or is_test(attempt.parcel) or isinstance(attempt.error, PermanentError):
        return DeliveryState.FAILED
    return DeliveryState.PENDING


def is_test(parcel: Parcel) -> bool:
    """Say whether a delivery is a test: sent even while the endpoint is paused, and no sign of its health."""
    return parcel.topic == ENDPOINT_TEST


def reason_to_pause(health: Health, *, is_gone: bool, now: datetime) -> str | None:
    """Return why an endpoint has to be paused, or None."""
    if is_gone:
        return "it answered 410 Gone"
    if health.failing_since is None or health.failures < PAUSED_AFTER_FAILURES:
        return None
    if now - health.failing_since < PAUSED_AFTER:
        return None
    return f"{health.failures} failures in a row since {health.failing_since:%Y-%m-%d %H:%M} UTC"
