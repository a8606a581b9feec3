"""Apps, installations and tokens, as Shopify knows them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class AccessMode(StrEnum):
    """What an access token stands for: the app in a shop, or one member of its staff."""

    OFFLINE = "offline"
    ONLINE = "online"


@dataclass(frozen=True, slots=True)
class Proxy:
    """An app proxy: `/{prefix}/{subpath}/…` of a storefront is answered by what `url` says."""

    url: str
    prefix: str = "apps"
    subpath: str = "app"

    @property
    def path_prefix(self) -> str:
        """What the forwarded query calls `path_prefix`."""
        return f"/{self.prefix}/{self.subpath}"


@dataclass(frozen=True, slots=True)
class Application:
    """An app; `secrets` are all that still count, the oldest first.

    Until an old secret is revoked Shopify goes on signing with it, and takes either at its token endpoint.
    """

    id: int
    client_id: str
    secrets: tuple[str, ...] = field(repr=False)
    title: str
    app_url: str
    redirect_urls: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    proxy: Proxy | None = None

    @property
    def signing_secret(self) -> str:
        """The secret that signs session tokens and queries."""
        return self.secrets[0]


@dataclass(frozen=True, slots=True)
class Installation:
    """An app in a shop, and what the merchant granted it."""

    domain: str
    client_id: str
    scopes: tuple[str, ...]
    installed_at: datetime
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class Staff:
    """Who uses the admin."""

    id: int
    first_name: str
    last_name: str
    email: str


@dataclass(frozen=True, slots=True)
class Code:
    """An authorization code: what the merchant approved, until the app collects it."""

    installation: Installation
    expires_at: datetime
    staff: Staff | None = None


@dataclass(slots=True)
class AccessToken:
    """A token for the Admin API; without `expires_at` it stays until it is revoked."""

    token: str
    domain: str
    client_id: str
    scopes: tuple[str, ...]
    mode: AccessMode = AccessMode.OFFLINE
    expires_at: datetime | None = None
    staff: Staff | None = None
    is_revoked: bool = False


@dataclass(slots=True)
class RefreshToken:
    """The other half of a pair.

    `replacement` is what the first use of this token gave out: until that is used itself, this one may be used
    again, and gives out the same.
    """

    token: str
    access: AccessToken
    expires_at: datetime
    first_used_at: datetime | None = None
    replacement: RefreshToken | None = field(default=None, repr=False)
    is_retired: bool = False
