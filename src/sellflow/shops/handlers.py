"""What the shops domain does with webhooks about the shop itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, StringConstraints

from sellflow.errors import PermanentError
from sellflow.postgres.database import Connection
from sellflow.queue import Event, Outbox, Subscription, json_of
from sellflow.shopify.tokens.store import erase_tokens, set_scopes
from sellflow.shops.customers.payloads import Deleted, parse_customer
from sellflow.shops.customers.store import delete_customers, write_customers
from sellflow.shops.imports.store import ask_for
from sellflow.shops.installation_store import installed_since
from sellflow.shops.models import Customer
from sellflow.shops.plans.billing_store import ask_for_check
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
        "shopify.app_subscriptions.update": "a shop's payments for the app changed",
        INSTALLED: "a shop installed the app, or granted it anew",
        REINSTALL_NEEDED: "Shopify refuses the shop's tokens until somebody opens the app there",
        "shopify.customers.create": "a customer was added",
        "shopify.customers.update": "something about a customer changed",
        "shopify.customers.delete": "a customer was deleted",
    },
    consumers=1,
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


@subscription.handler("shopify.customers.create", "shopify.customers.update", parse=parse_customer)
async def record_customers(
    connection: Connection, batch: Sequence[tuple[Event, Customer]], _outbox: Outbox
) -> Mapping[int, str]:
    """Keep what a batch says of customers, where it is newer than what is known."""
    await write_customers(connection, [(event.shop_id, customer) for event, customer in batch])
    return {event.event_id: f"knows customer {customer.customer_id}" for event, customer in batch}


@subscription.handler("shopify.customers.delete", parse=json_of(Deleted))
async def forget_deleted(
    connection: Connection, batch: Sequence[tuple[Event, Deleted]], _outbox: Outbox
) -> Mapping[int, str]:
    """Forget customers that were deleted at Shopify, which allows it only for those without orders."""
    await delete_customers(connection, [(event.shop_id, customer.id) for event, customer in batch])
    return {event.event_id: f"forgot customer {customer.id}" for event, customer in batch}


def _unread(_event: Event) -> None:
    """Believe nothing of a payload: what is true is read from Shopify."""


@subscription.handler("shopify.app_subscriptions.update", parse=_unread)
async def look_at_billing(
    connection: Connection, batch: Sequence[tuple[Event, None]], _outbox: Outbox
) -> Mapping[int, str]:
    """Have shops' subscriptions read again: what a notice says may be late, out of order, or of another shop."""
    await ask_for_check(connection, (event.shop_id for event, _ in batch))
    return {event.event_id: "its subscriptions are looked up at Shopify" for event, _ in batch}


@subscription.handler(INSTALLED, parse=_unread)
async def welcome(connection: Connection, batch: Sequence[tuple[Event, None]], _outbox: Outbox) -> Mapping[int, str]:
    """Have the customers that a shop had before brought in, and what it pays for read."""
    installed = [event.shop_id for event, _ in batch]
    await ask_for(connection, installed, "customers")
    await ask_for_check(connection, installed)
    return {event.event_id: "its customers are imported, its subscriptions looked up" for event, _ in batch}
