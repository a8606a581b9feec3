"""Signing in: codes for one use, bound to their client by PKCE, and the tokens that come of them.

The flow is that of Shopify's page on the Customer Account API: OAuth 2.0 for public clients (RFC 7636, S256).
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from sellflow.errors import NotFoundError
from sellflow.simulator.accounts.keys import Keys
from sellflow.simulator.accounts.models import Asked, Client, Granted, Login
from sellflow.simulator.models import Customer, Shop
from sellflow.simulator.oauth.errors import OAuthRefusedError, missing, unsupported_grant
from sellflow.simulator.payload_parts import Json

CODE_LIFE = timedelta(minutes=5)
# Shopify names neither in its documentation: an app has to read `expires_in`.
ACCESS_LIFE = timedelta(hours=2)
REFRESH_LIFE = timedelta(days=30)
ID_TOKEN_LIFE = timedelta(hours=1)
SCOPES = ("openid", "email", "customer-account-api:full")


class Accounts:
    """Clients, logins and tokens of every shop."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.now = now
        self.keys: defaultdict[str, Keys] = defaultdict(Keys)
        self._clients: dict[tuple[str, str], Client] = {}
        self._codes: dict[str, Granted] = {}
        self._collected: dict[str, Login] = {}
        self._access: dict[str, Granted] = {}
        self._refresh: dict[str, Granted] = {}

    def register(self, domain: str, client: Client) -> Client:
        """Make or change a client."""
        self._clients[domain, client.client_id] = client
        return client

    def client(self, domain: str, client_id: str) -> Client:
        """Return a client.

        Raises
        ------
        NotFoundError
            If the shop has none of that id.
        """
        if (domain, client_id) not in self._clients:
            raise NotFoundError(
                f"no customer client {client_id!r}: register it with PUT /shops/{domain}/customer-clients/{client_id}"
            )
        return self._clients[domain, client_id]

    def sign_in(self, domain: str, customer: Customer, asked: Asked) -> str:
        """Return the code that the client collects its tokens with."""
        code = secrets.token_urlsafe(24)
        self._codes[code] = Granted(Login(domain, customer.id, asked, self.now()), self.now() + CODE_LIFE)
        return code

    def answer(self, shop: Shop, customers: Mapping[int, Customer], parameters: Mapping[str, str]) -> Json:
        """Return what the token endpoint gives.

        Raises
        ------
        OAuthRefusedError
            If it refuses.
        """
        grant, client_id = parameters.get("grant_type", ""), parameters.get("client_id", "")
        if (shop.domain, client_id) not in self._clients:
            raise OAuthRefusedError("invalid_client", "The client is unknown.", status=401)
        if grant == "authorization_code":
            login = self._collect(shop.domain, client_id, parameters)
            id_token = self._id_token(shop, login, customers[login.customer_id])
            return self._tokens(login) | {"id_token": id_token}
        if grant == "refresh_token":
            return self._tokens(self._refreshed(shop.domain, client_id, parameters.get("refresh_token", "")))
        raise unsupported_grant(grant) if grant else missing("grant_type")

    def signed_in(self, domain: str, token: str) -> Login | None:
        """Return who an access token stands for, or None where it does not hold."""
        granted = self._access.get(token)
        return granted.login if granted and self._holds(granted) and granted.login.domain == domain else None

    def sign_out(self, domain: str, customer_id: int) -> None:
        """End everything that a customer's logins gave out."""
        for granted in (*self._access.values(), *self._refresh.values(), *self._codes.values()):
            if (granted.login.domain, granted.login.customer_id) == (domain, customer_id):
                granted.login.is_ended = True

    def _collect(self, domain: str, client_id: str, parameters: Mapping[str, str]) -> Login:
        """Return the login of a code. A code that comes twice was stolen: what it gave ends (RFC 6749, 4.1.2)."""
        code = parameters.get("code", "")
        if code in self._collected:
            self._collected[code].is_ended = True
            raise _invalid_grant("The code was used before.")
        granted = self._codes.get(code)
        if granted is None or not self._holds(granted) or not _is_of(granted.login, domain, client_id):
            raise _invalid_grant("The code is unknown or has expired.")
        asked = granted.login.asked
        if parameters.get("redirect_uri") != asked.redirect_uri:
            raise _invalid_grant("The redirect_uri is not the one that the code was asked for with.")
        if not _proves(parameters.get("code_verifier", ""), asked.challenge):
            raise _invalid_grant("code_verifier is invalid.")
        self._collected[code] = self._codes.pop(code).login
        return granted.login

    def _refreshed(self, domain: str, client_id: str, token: str) -> Login:
        granted = self._refresh.get(token)
        if granted is None or not self._holds(granted) or not _is_of(granted.login, domain, client_id):
            raise _invalid_grant("The refresh token is unknown, was used before or has expired.")
        del self._refresh[token]
        return granted.login

    def _tokens(self, login: Login) -> Json:
        access, refresh = f"shcat_{secrets.token_urlsafe(24)}", f"shcrt_{secrets.token_urlsafe(24)}"
        self._access[access] = Granted(login, self.now() + ACCESS_LIFE)
        self._refresh[refresh] = Granted(login, self.now() + REFRESH_LIFE)
        return {
            "access_token": access,
            "expires_in": int(ACCESS_LIFE.total_seconds()),
            "refresh_token": refresh,
            "scope": login.asked.scope,
            "token_type": "bearer",
        }

    def _id_token(self, shop: Shop, login: Login, customer: Customer) -> str:
        issued = int(self.now().timestamp())
        claims: dict[str, Any] = {
            "iss": issuer_of(shop),
            "aud": login.asked.client.client_id,
            "sub": str(customer.id),
            "iat": issued,
            "exp": issued + int(ID_TOKEN_LIFE.total_seconds()),
            "auth_time": int(login.at.timestamp()),
            "jti": secrets.token_hex(12),
        }
        if login.asked.nonce is not None:
            claims["nonce"] = login.asked.nonce
        if "email" in login.asked.scope.split():
            claims |= {"email": customer.email, "email_verified": True}
        return self.keys[shop.domain].sign(claims)

    def _holds(self, granted: Granted) -> bool:
        return not granted.login.is_ended and self.now() < granted.expires_at


def issuer_of(shop: Shop) -> str:
    """Return the issuer of a shop's id tokens: Shopify's own address, wherever the simulator is reached."""
    return f"https://shopify.com/authentication/{shop.id}"


def challenge_of(verifier: str) -> str:
    """Return the S256 challenge of a verifier (RFC 7636, 4.2)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")


def _proves(verifier: str, challenge: str) -> bool:
    return 43 <= len(verifier) <= 128 and secrets.compare_digest(challenge_of(verifier).encode(), challenge.encode())


def _is_of(login: Login, domain: str, client_id: str) -> bool:
    return (login.domain, login.asked.client.client_id) == (domain, client_id)


def _invalid_grant(description: str) -> OAuthRefusedError:
    return OAuthRefusedError("invalid_grant", description)
