"""Signed webhook deliveries, made before the clock starts: 1 % of them are sent twice."""

from __future__ import annotations

import hmac
import random
from array import array
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from benchmarks.orders import order_front, order_tail

SHOP_DOMAIN = "bench.myshopify.com"
TOPIC = "orders/paid"
API_VERSION = "2026-10"
DUPLICATE_EVERY = 100
#: A duplicate repeats one of this many deliveries before it: some are in flight still, others answered.
DUPLICATE_REACH = 500
TAILS = 200


@dataclass(frozen=True)
class Delivery:
    """One webhook as Shopify sends it; `number` tells deliveries of one run apart."""

    number: int
    webhook_id: str
    signature: str
    body_front: bytes
    body_tail: bytes

    @property
    def body(self) -> bytes:
        """The signed bytes."""
        return self.body_front + self.body_tail


@dataclass(frozen=True)
class Requests:
    """Rendered requests in the order to send, each in two parts, and the number of what each one delivers."""

    parts: list[tuple[bytes, bytes]]
    numbers: array[int]


def webhook_id(run: int, number: int) -> str:
    """Return the webhook id of a run's delivery, shaped like a UUID."""
    return f"{run_prefix(run)}0000-4000-8000-{number:012x}"


def run_prefix(run: int) -> str:
    """Return what the webhook ids of this run, and of no other, begin with."""
    return f"{run:08x}-"


def make_deliveries(*, secret: str, run: int, count: int, moment: datetime) -> Iterator[Delivery]:
    """Yield `count` distinct deliveries of one run, signed with the app's secret."""
    draw = random.Random(run)
    tails = [order_tail(draw, moment) for _ in range(TAILS)]
    key = secret.encode()
    for number in range(count):
        front, tail = order_front(number), tails[number % TAILS]
        signature = b64encode(hmac.digest(key, front + tail, "sha256")).decode()
        yield Delivery(number, webhook_id(run, number), signature, front, tail)


def render(delivery: Delivery, *, host: str, path: str, moment: datetime) -> tuple[bytes, bytes]:
    """Return the delivery as an HTTP/1.1 request in two parts to be sent together."""
    length = len(delivery.body_front) + len(delivery.body_tail)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: Shopify-Captain-Hook\r\nAccept: */*\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length}\r\n"
        f"X-Shopify-Topic: {TOPIC}\r\nX-Shopify-Hmac-Sha256: {delivery.signature}\r\n"
        f"X-Shopify-Shop-Domain: {SHOP_DOMAIN}\r\nX-Shopify-API-Version: {API_VERSION}\r\n"
        f"X-Shopify-Webhook-Id: {delivery.webhook_id}\r\nX-Shopify-Event-Id: {delivery.webhook_id}\r\n"
        f"X-Shopify-Triggered-At: {moment.isoformat(timespec='seconds')}\r\n\r\n"
    )
    return head.encode() + delivery.body_front, delivery.body_tail


def make_requests(*, secret: str, run: int, count: int, host: str, path: str, moment: datetime) -> Requests:
    """Return `count` requests of which every hundredth repeats one before it, byte for byte."""
    draw = random.Random(run)
    fresh = make_deliveries(secret=secret, run=run, count=count, moment=moment)
    parts: list[tuple[bytes, bytes]] = []
    numbers = array("Q")
    for position in range(count):
        if position % DUPLICATE_EVERY == DUPLICATE_EVERY - 1:
            repeated = draw.randrange(max(0, position - DUPLICATE_REACH), position)
            parts.append(parts[repeated])
            numbers.append(numbers[repeated])
        else:
            delivery = next(fresh)
            parts.append(render(delivery, host=host, path=path, moment=moment))
            numbers.append(delivery.number)
    return Requests(parts, numbers)
