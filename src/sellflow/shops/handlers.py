"""What the shops domain does with webhooks about the shop itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

from sellflow.errors import PermanentError
from sellflow.postgres.database import Connection
from sellflow.queue import Event, Outbox, Subscription, json_of
from sellflow.shops.store import domains_of, mark_uninstalled

subscription = Subscription("shops", {"shopify.app.uninstalled": "a shop removed the app"})


class ForeignShopError(PermanentError):
    """The signed body names another shop than the unsigned header."""

    code = "shops.foreign_shop"


class ShopResource(BaseModel):
    """A shop, as its notices describe it."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    myshopify_domain: Annotated[str, StringConstraints(to_lower=True)]


@subscription.handler("shopify.app.uninstalled", parse=json_of(ShopResource))
async def record_uninstalled(
    connection: Connection, batch: Sequence[tuple[Event, ShopResource]], _outbox: Outbox
) -> Mapping[int, str]:
    """Mark the shops that removed the app, where body and header agree on which one it is."""
    domains = await domains_of(connection, [event.shop_id for event, _ in batch])
    for event, shop in batch:
        if domains[event.shop_id] != shop.myshopify_domain:
            raise ForeignShopError(
                f"the body is about {shop.myshopify_domain}, the header names {domains[event.shop_id]}"
            )
    await mark_uninstalled(connection, [event.shop_id for event, _ in batch])
    return {event.event_id: f"{shop.myshopify_domain} removed the app" for event, shop in batch}
