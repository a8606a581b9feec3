"""What an app and a shop are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class App:
    """A Shopify app. Its webhooks arrive at /webhooks/shopify/{handle}."""

    app_id: int
    handle: str
    client_id: str
    client_secret: str = field(repr=False)
    previous_secret: str | None = field(repr=False)
    #: Where a shop of it is found, with {shop} for the domain; None for Shopify itself.
    shopify_url: str | None = None
    #: The access scopes that it asks merchants for; None for those of the settings.
    scopes: Sequence[str] | None = None

    @property
    def secrets(self) -> tuple[str, ...]:
        """The secrets whose signatures are accepted, the current one first."""
        return (self.client_secret,) if self.previous_secret is None else (self.client_secret, self.previous_secret)


@dataclass(frozen=True, slots=True)
class Shop:
    """A shop that installed an app."""

    shop_id: int
    app_id: int
    domain: str
    currency: str
    installed_at: datetime
    uninstalled_at: datetime | None


@dataclass(frozen=True, slots=True)
class Installation:
    """What is known of an app in a shop, without its secrets. `kind` is None where there is no token."""

    shop_id: int
    currency: str
    is_uninstalled: bool
    kind: str | None
    scopes: Sequence[str] | None
    is_broken: bool
    #: Seconds since the merchant's grant brought the token.
    granted_ago: float | None


@dataclass(frozen=True, slots=True)
class Announcement:
    """News of a shop's token: that there is one, or why Shopify refuses it (`broken`)."""

    shop_id: int
    domain: str
    scopes: Sequence[str]
    broken: str | None


class Customer(NamedTuple):
    """A customer as Shopify described it at `revised_at`."""

    customer_id: int
    email: str | None
    phone: str | None
    first_name: str | None
    last_name: str | None
    locale: str | None
    state: str
    tags: str
    accepts_marketing: bool
    created_at: datetime | None
    revised_at: datetime
