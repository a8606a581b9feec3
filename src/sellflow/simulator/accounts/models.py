"""Clients of the Customer Account API, and who signed in through them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Client:
    """A public client of a shop, such as a mobile app: it has no secret, so it proves itself with PKCE."""

    client_id: str
    redirect_uris: tuple[str, ...]
    logout_uris: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Asked:
    """A request to sign in whose client and redirect were found to belong together."""

    client: Client
    redirect_uri: str
    scope: str
    challenge: str
    state: str | None
    nonce: str | None


@dataclass(slots=True)
class Login:
    """A customer who signed in through a client, until the tokens are given out and after.

    Everything that came of one code ends together: that is what a second use of the code does.
    """

    domain: str
    customer_id: int
    asked: Asked
    at: datetime
    is_ended: bool = False


@dataclass(frozen=True, slots=True)
class Granted:
    """A token of a login."""

    login: Login
    expires_at: datetime
