"""What an app and a shop are."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class App:
    """A Shopify app. Its webhooks arrive at /webhooks/shopify/{handle}."""

    app_id: int
    handle: str
    client_id: str
    client_secret: str = field(repr=False)
    previous_secret: str | None = field(repr=False)

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
