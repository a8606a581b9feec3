"""What the shops domain does with webhooks about the shop itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, StringConstraints

from sellflow.errors import PermanentError
from sellflow.postgres.database import Connection
from sellflow.queue import Event, Outbox, Subscription, json_of
from sellflow.shopify.tokens.store import erase_tokens, set_scopes
from sellflow.shops.installation_store import installed_since
from sellflow.shops.store import domains_of, mark_uninstalled

#: A shop has a token that it had not before: work for it may begin.
INSTALLED = "shops.installed"
#: Shopify refuses every token that there is of a shop: nothing can be done for it until the app is opened there.
REINSTALL_NEEDED = "shops.reinstall_needed"

subscription = Subscription(
    "shops",
    {
        "shopify.app.uninstalled": "a shop removed the app",
        "shopify.app.scopes_update": "a shop granted the app other access scopes",
        INSTALLED: "a shop installed the app, or granted it anew",
        REINSTALL_NEEDED: "Shopify refuses the shop's tokens until somebody opens the app there",
    },
)


class ForeignShopError(PermanentError):
    """The signed body names another shop than the unsigned header."""

    code = "shops.foreign_shop"


class ShopResource(BaseModel):
    """A shop, as its notices describe it."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    myshopify_domain: Annotated[str, StringConstraints(to_lower=True)]


class ScopesChange(BaseModel):
    """What a notice of changed scopes says."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    current: tuple[str, ...]
    updated_at: AwareDatetime | None = None


@subscription.handler("shopify.app.uninstalled", parse=json_of(ShopResource))
async def record_uninstalled(
    connection: Connection, batch: Sequence[tuple[Event, ShopResource]], _outbox: Outbox
) -> Mapping[int, str]:
    """Mark the shops that removed the app and erase their tokens, where body and header agree on which one it is.

    A notice may be a day late: one from before the merchant's last grant is about an installation before that.
    """
    domains = await domains_of(connection, [event.shop_id for event, _ in batch])
    for event, shop in batch:
        if domains[event.shop_id] != shop.myshopify_domain:
            raise ForeignShopError(
                f"the body is about {shop.myshopify_domain}, the header names {domains[event.shop_id]}"
            )
    stale = await installed_since(connection, [event for event, _ in batch])
    gone = {event.shop_id for event, _ in batch if event.event_id not in stale}
    await mark_uninstalled(connection, list(gone))
    await erase_tokens(connection, gone)
    return {
        event.event_id: f"{shop.myshopify_domain} has installed the app again since"
        if event.event_id in stale
        else f"{shop.myshopify_domain} removed the app: its tokens are erased"
        for event, shop in batch
    }


@subscription.handler("shopify.app.scopes_update", parse=json_of(ScopesChange))
async def record_scopes(
    connection: Connection, batch: Sequence[tuple[Event, ScopesChange]], _outbox: Outbox
) -> Mapping[int, str]:
    """Write down what the app may do in shops from now on; what an older notice says later changes nothing."""
    await set_scopes(
        connection,
        [(event.shop_id, change.updated_at or event.received_at, list(change.current)) for event, change in batch],
    )
    return {event.event_id: f"{len(change.current)} scopes are granted" for event, change in batch}
