"""What the shops domain does with webhooks about the shop itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict, ValidationError

from sellflow.errors import InvalidPayloadError, PermanentError
from sellflow.postgres.database import Connection
from sellflow.queue.topics import Event, Handler, Outbox, Subscription
from sellflow.shops.store import domains_of, mark_uninstalled


class ForeignShopError(PermanentError):
    """The signed body names another shop than the unsigned header."""

    code = "shops.foreign_shop"


class _ShopResource(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    myshopify_domain: str


def parse_shop_domain(event: Event) -> str:
    """Return the domain that a shop resource names.

    Raises
    ------
    InvalidPayloadError
        If the payload is no shop resource.
    """
    try:
        return _ShopResource.model_validate_json(event.payload).myshopify_domain.lower()
    except ValidationError as error:
        raise InvalidPayloadError(f"not a valid {event.topic} payload: {error.errors()[0]['msg']}") from None


async def record_uninstalled(
    connection: Connection, batch: Sequence[tuple[Event, str]], _outbox: Outbox
) -> Mapping[int, str]:
    """Mark the shops that removed the app, where body and header agree on which one it is."""
    domains = await domains_of(connection, [event.shop_id for event, _ in batch])
    for event, domain in batch:
        if domains[event.shop_id] != domain:
            raise ForeignShopError(f"the body is about {domain}, the header names {domains[event.shop_id]}")
    await mark_uninstalled(connection, [event.shop_id for event, _ in batch])
    return {event.event_id: f"{domain} removed the app" for event, domain in batch}


SUBSCRIPTION = Subscription(
    queue="shops",
    topics={"shopify.app.uninstalled": "a shop removed the app"},
    handlers=(
        Handler(
            name="record_uninstalled",
            patterns=("shopify.app.uninstalled",),
            parse=parse_shop_domain,
            apply=record_uninstalled,
        ),
    ),
)
