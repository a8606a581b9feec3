"""What a token is, where it comes from and what is stored of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class TokenKind(StrEnum):
    """How a token lives on."""

    #: An hour, with a refresh token that brings the next.
    EXPIRING = "expiring"
    #: Until the app is removed: what apps that an admin made have, and public ones had before 2027.
    PERMANENT = "permanent"
    #: A day; the app's own credentials bring the next. For apps in the stores of their own organisation.
    CLIENT_CREDENTIALS = "client_credentials"


@dataclass(frozen=True, slots=True)
class Access:
    """What a call of a shop's Admin API needs."""

    shop_id: int
    domain: str
    #: Without a slash at its end: `{base_url}/admin/api/…`.
    base_url: str
    token: str = field(repr=False)
    scopes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Client:
    """An app as the token endpoint of one shop knows it."""

    app_id: int
    domain: str
    base_url: str
    client_id: str
    client_secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Grant:
    """What Shopify answered with: a token, and how long it lives, in seconds from the answer."""

    kind: TokenKind
    access_token: str = field(repr=False)
    scopes: tuple[str, ...]
    expires_in: float | None = None
    refresh_token: str | None = field(default=None, repr=False)
    refresh_expires_in: float | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """A shop's token as the database has it, still sealed; times are seconds from now by the database's clock."""

    shop_id: int
    app_id: int
    domain: str
    base_url: str
    kind: TokenKind
    sealed_token: bytes = field(repr=False)
    sealed_refresh: bytes | None = field(repr=False)
    sealed_previous: bytes | None = field(repr=False)
    scopes: frozenset[str]
    seconds_left: float | None
    retry_in: float
    failures: int
    last_error: str
    is_broken: bool
