"""What becomes of compliance webhooks: each is written down as a request, which the scheduler fulfils."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sellflow.postgres.database import Connection
from sellflow.queue import Event, Outbox, Subscription
from sellflow.shops.compliance.event_log import QUEUE
from sellflow.shops.compliance.models import DUE_WITHIN, Notice
from sellflow.shops.compliance.payloads import KINDS, parse_notice
from sellflow.shops.compliance.store import add_requests
from sellflow.shops.handlers import ForeignShopError
from sellflow.shops.store import domains_of

subscription = Subscription(
    QUEUE,
    {
        "shopify.customers.data_request": "a customer wants to know what is stored of them",
        "shopify.customers.redact": "a customer is to be erased",
        "shopify.shop.redact": "a shop that removed the app is to be erased",
    },
    consumers=1,
)


@subscription.handler(*KINDS, parse=parse_notice)
async def record_requests(
    connection: Connection, batch: Sequence[tuple[Event, Notice]], _outbox: Outbox
) -> Mapping[int, str]:
    """Write down what is asked for, where the signed body and the unsigned header agree on the shop."""
    domains = await domains_of(connection, [event.shop_id for event, _ in batch])
    for event, notice in batch:
        domain = domains.get(event.shop_id, notice.shop_domain)
        if domain != notice.shop_domain:
            raise ForeignShopError(f"the body is about {notice.shop_domain}, the header names {domain}")
    await add_requests(connection, [(event, notice) for event, notice in batch if event.shop_id in domains])
    return {event.event_id: _sentence(event, notice, is_gone=event.shop_id not in domains) for event, notice in batch}


def _sentence(event: Event, notice: Notice, *, is_gone: bool) -> str:
    if is_gone:
        return "the shop was erased meanwhile: nothing is left of it"
    return f"{notice.kind.value.replace('_', ' ')}, due by {event.received_at + DUE_WITHIN:%Y-%m-%d}"
