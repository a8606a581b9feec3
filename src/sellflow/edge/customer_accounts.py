"""Who a shop's customer is, by what Shopify's Customer Account API gave their app: an id_token or an access token.

Discovery documents say where its parts are (OpenID Connect Discovery 1.0, and Shopify's own
/.well-known/customer-account-api). They are fetched from the shop's own host, and what they name is only believed
where it lies at that shop's domain or at Shopify.
"""

from __future__ import annotations

import asyncio
import hmac
import re
import time
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any, ClassVar
from urllib.parse import urlsplit

import jwt
import orjson

from sellflow.edge.fetching import FetchError, fetch_json
from sellflow.errors import SellflowError
from sellflow.queue.outgoing.addresses import Allowance

DISCOVERED_FOR = 600.0  # seconds for which a shop's documents and keys are kept
UNAVAILABLE_FOR = 5.0  # seconds for which a shop that did not answer is not asked again
UNKNOWN_KEY_PAUSE = 10.0  # seconds between two looks for a key that was not there
LEEWAY = 10  # seconds that Shopify's clock and ours may differ
_CUSTOMER = re.compile(r"(?:gid://shopify/Customer/)?([1-9][0-9]{0,17})")
_QUERY = orjson.dumps({"query": "query { customer { id } }"})
#: What an operator's own address of Shopify (the simulator) may lie at: anywhere.
_ANYWHERE = Allowance((ip_network("0.0.0.0/0"), ip_network("::/0")))


class CustomerRefusedError(SellflowError):
    """What an app showed proves no customer of the shop."""

    code = "auth.customer_refused"


class AccountsUnavailableError(SellflowError):
    """The shop's Customer Account API cannot be asked at the moment."""

    code: ClassVar[str] = "customer_accounts.unavailable"


@dataclass(frozen=True, slots=True)
class AccountsPlace:
    """Where a shop's customer accounts are, and the client that its mobile app is to them.

    `shopify_url` is the operator's own address of Shopify, the simulator's; usually None.
    """

    domain: str
    storefront_domain: str | None
    client_id: str
    shopify_url: str | None = None

    @property
    def base_url(self) -> str:
        """Where the discovery documents are."""
        return self.shopify_url or f"https://{self.storefront_domain or self.domain}"

    @property
    def allowance(self) -> Allowance:
        """Where connections may go: a merchant's domain leads to public addresses alone."""
        return _ANYWHERE if self.shopify_url else Allowance()

    def trusts(self, url: object) -> bool:
        """Say whether a document of this shop may name an address."""
        if not isinstance(url, str):
            return False
        parts, base = urlsplit(url), urlsplit(self.base_url)
        if self.shopify_url:
            return (parts.scheme, parts.netloc) == (base.scheme, base.netloc)
        root = (self.storefront_domain or self.domain).removeprefix("www.")
        host = parts.hostname or ""
        is_ours = host in (root, self.domain, "shopify.com") or host.endswith("." + root)
        return parts.scheme == "https" and is_ours and parts.netloc == host

    def trusts_issuer(self, url: object) -> bool:
        """Say whether a document of this shop may name an issuer: Shopify's own, wherever its documents are."""
        is_shopify = isinstance(url, str) and url.startswith("https://shopify.com/authentication/")
        return is_shopify or self.trusts(url)


@dataclass(slots=True)
class _Shop:
    """What was discovered of a shop."""

    issuer: str
    jwks_uri: str
    graphql_url: str
    keys: dict[str, jwt.PyJWK]
    discovered_at: float
    keys_at: float


class CustomerAccounts:
    """Asks shops' Customer Account APIs; what it discovers is kept for some minutes."""

    def __init__(self, *, timeout: float) -> None:
        self._timeout = timeout
        self._shops: dict[AccountsPlace, _Shop] = {}
        self._locks: dict[AccountsPlace, asyncio.Lock] = {}
        #: Why a shop could not be asked, and when: who waits behind whoever found out is told at once.
        self._failures: dict[AccountsPlace, tuple[str, float]] = {}

    async def by_id_token(self, place: AccountsPlace, id_token: str, *, nonce: str) -> int:
        """Return the id of the customer that an id_token is about: RS256, of this shop, for its client and nonce.

        Raises
        ------
        CustomerRefusedError
            If it is not valid.
        AccountsUnavailableError
            If its key cannot be fetched.
        """
        shop = await self._discovered(place)
        try:
            key = await self._key(place, shop, jwt.get_unverified_header(id_token))
            claims = jwt.decode(
                id_token,
                key,
                algorithms=["RS256"],
                audience=place.client_id,
                issuer=shop.issuer,
                leeway=LEEWAY,
                options={"require": ["iss", "aud", "sub", "exp", "iat"]},
            )
        except (jwt.PyJWTError, ValueError) as error:
            raise CustomerRefusedError(f"the id_token was refused: {error}".rstrip(".")) from error
        if not isinstance(claims.get("nonce"), str) or not hmac.compare_digest(
            claims["nonce"].encode(), nonce.encode()
        ):
            raise CustomerRefusedError("the id_token was refused: its nonce is not the one that was sent along")
        if isinstance(claims["aud"], list) and len(claims["aud"]) > 1 and claims.get("azp") != place.client_id:
            raise CustomerRefusedError("the id_token was refused: it was made for another client")
        return _customer_id(claims["sub"])

    async def by_access_token(self, place: AccountsPlace, access_token: str) -> int:
        """Return the id of the customer that the shop's Customer Account API answers an access token with.

        Raises
        ------
        CustomerRefusedError
            If it answers with none.
        AccountsUnavailableError
            If it does not answer.
        """
        shop = await self._discovered(place)
        headers = {"authorization": access_token, "content-type": "application/json"}
        status, answer = await self._fetch(place, shop.graphql_url, headers=headers, content=_QUERY)
        if status >= 500 or status == 429:
            raise AccountsUnavailableError(f"Shopify's Customer Account API answered {status}: try again in a moment")
        try:
            return _customer_id(answer["data"]["customer"]["id"])
        except (KeyError, TypeError) as error:
            raise CustomerRefusedError("the access token was refused by the shop's Customer Account API") from error

    async def _discovered(self, place: AccountsPlace) -> _Shop:
        async with self._locks.setdefault(place, asyncio.Lock()):
            known = self._shops.get(place)
            if known is not None and time.monotonic() - known.discovered_at <= DISCOVERED_FOR:
                return known
            why, failed_at = self._failures.get(place, ("", float("-inf")))
            if time.monotonic() - failed_at < UNAVAILABLE_FOR:
                raise AccountsUnavailableError(why)
            try:
                self._shops[place] = await self._discover(place)
            except AccountsUnavailableError as error:
                self._failures[place] = str(error), time.monotonic()
                raise
            return self._shops[place]

    async def _discover(self, place: AccountsPlace) -> _Shop:
        openid = await self._document(place, "openid-configuration", "issuer", "jwks_uri")
        account = await self._document(place, "customer-account-api", "graphql_api")
        now = time.monotonic()
        keys = await self._fetch_keys(place, openid["jwks_uri"])
        return _Shop(openid["issuer"], openid["jwks_uri"], account["graphql_api"], keys, now, now)

    async def _document(self, place: AccountsPlace, name: str, *members: str) -> dict[str, str]:
        """Fetch a discovery document and return some of its addresses, none of them outside of the shop and Shopify."""
        status, document = await self._fetch(place, f"{place.base_url}/.well-known/{name}")
        found = {each: document.get(each) for each in members} if isinstance(document, dict) else {}
        are_trusted = (
            place.trusts_issuer(url) if member == "issuer" else place.trusts(url) for member, url in found.items()
        )
        if status != 200 or not found or not all(are_trusted):
            raise AccountsUnavailableError(f"{place.base_url} has no {name} that can be trusted: check the domain")
        return {name: str(url) for name, url in found.items()}

    async def _key(self, place: AccountsPlace, shop: _Shop, header: dict[str, Any]) -> jwt.PyJWK:
        kid = header.get("kid")
        if kid not in shop.keys and time.monotonic() - shop.keys_at > UNKNOWN_KEY_PAUSE:
            # Rotated, perhaps; rubbish causes one look in a while.
            shop.keys_at = time.monotonic()
            shop.keys = await self._fetch_keys(place, shop.jwks_uri)
        if not isinstance(kid, str) or kid not in shop.keys:
            raise ValueError("its key is not known")
        return shop.keys[kid]

    async def _fetch_keys(self, place: AccountsPlace, url: str) -> dict[str, jwt.PyJWK]:
        _, document = await self._fetch(place, url)
        listed = document.get("keys") if isinstance(document, dict) else None
        if not isinstance(listed, list):
            raise AccountsUnavailableError(f"{url} holds no keys")
        usable = [each for each in listed if isinstance(each, dict) and each.get("kty") == "RSA" and each.get("kid")]
        try:
            return {str(each["kid"]): jwt.PyJWK(each, algorithm="RS256") for each in usable}
        except jwt.PyJWTError as error:
            raise AccountsUnavailableError(f"{url} holds a key that is none") from error

    async def _fetch(
        self, place: AccountsPlace, url: str, *, headers: dict[str, str] | None = None, content: bytes | None = None
    ) -> tuple[int, Any]:
        try:
            return await fetch_json(
                url, allowance=place.allowance, timeout=self._timeout, headers=headers, content=content
            )
        except FetchError as error:
            raise AccountsUnavailableError(f"the shop's customer accounts cannot be asked: {error}") from error


def _customer_id(text: object) -> int:
    found = _CUSTOMER.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise CustomerRefusedError("it is about no customer")
    return int(found[1])
