"""Customers by what Shopify gave their app: which id_tokens are believed, and which addresses are asked."""

from __future__ import annotations

import asyncio
import hmac
import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import jwt
import orjson
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from sellflow.edge import customer_accounts
from sellflow.edge.customer_accounts import (
    AccountsPlace,
    AccountsUnavailableError,
    CustomerAccounts,
    CustomerRefusedError,
)
from tests.edge.shopify_accounts import CLIENT, ISSUER, NONCE, Accounts
from tests.edge.shopify_accounts import accounts as serving_accounts

pytestmark = pytest.mark.conformance
REAL = AccountsPlace(domain="acme.myshopify.com", storefront_domain="www.acme.example", client_id=CLIENT)


@pytest.fixture
async def accounts() -> AsyncIterator[Accounts]:
    async with serving_accounts() as found:
        yield found


@pytest.fixture
def place(accounts: Accounts) -> AccountsPlace:
    return replace(REAL, shopify_url=accounts.url)


@pytest.fixture
def asking() -> CustomerAccounts:
    return CustomerAccounts(timeout=5)


async def test_an_id_token_names_its_customer(
    accounts: Accounts, place: AccountsPlace, asking: CustomerAccounts
) -> None:
    assert await asking.by_id_token(place, accounts.id_token(), nonce=NONCE) == 7
    full = accounts.id_token(sub="gid://shopify/Customer/8")
    assert await asking.by_id_token(place, full, nonce=NONCE) == 8
    assert accounts.calls["/jwks"] == accounts.calls["/.well-known/openid-configuration"] == 1, "it is kept"


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "another-client"},
        {"aud": None},
        {"aud": [CLIENT, "another-client"]},
        {"iss": "https://evil.example"},
        {"iss": None},
        {"exp": 1},
        {"exp": None},
        {"iat": 4_000_000_000},
        {"nonce": "another"},
        {"nonce": None},
        {"nonce": 7},
        {"sub": "gid://shopify/Order/7"},
        {"sub": "7; DROP TABLE customers"},
        {"sub": ""},
        {"sub": None},
        {"kid": "first", "key": "made"},
    ],
)
async def test_an_id_token_that_says_something_else_is_refused(
    accounts: Accounts, place: AccountsPlace, asking: CustomerAccounts, changes: dict[str, Any]
) -> None:
    if changes.get("key") == "made":
        changes = {"key": rsa.generate_private_key(65537, 2048)}
    with pytest.raises(CustomerRefusedError):
        await asking.by_id_token(place, accounts.id_token(**changes), nonce=NONCE)


def signed_by_hand(claims: dict[str, Any], secret: bytes) -> str:
    """An HS256 token under what is no secret: the library refuses to make one."""

    def part(value: object) -> bytes:
        return urlsafe_b64encode(orjson.dumps(value)).rstrip(b"=")

    signed = part({"alg": "HS256", "typ": "JWT", "kid": "first"}) + b"." + part(claims)
    return (signed + b"." + urlsafe_b64encode(hmac.digest(secret, signed, "sha256")).rstrip(b"=")).decode()


async def test_no_other_algorithm_is_believed(
    accounts: Accounts, place: AccountsPlace, asking: CustomerAccounts
) -> None:
    claims = {"iss": ISSUER, "aud": CLIENT, "sub": "7", "nonce": NONCE, "iat": 1, "exp": int(time.time()) + 60}
    public = accounts.keys["first"].public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    for token in (
        jwt.encode(claims, "", algorithm="none", headers={"kid": "first"}),
        signed_by_hand(claims, pem),
        accounts.id_token(algorithm="RS512"),
        accounts.id_token(algorithm="PS256"),
        "",
        "a.b.c",
        "\N{SNOWMAN}",
    ):
        with pytest.raises(CustomerRefusedError):
            await asking.by_id_token(place, token, nonce=NONCE)


async def test_a_rotated_key_is_looked_for_but_rubbish_causes_no_storm(
    accounts: Accounts, place: AccountsPlace, asking: CustomerAccounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asking.by_id_token(place, accounts.id_token(), nonce=NONCE)
    accounts.keys["second"] = rsa.generate_private_key(65537, 2048)
    token = accounts.id_token(kid="second")
    for _ in range(20):
        with pytest.raises(CustomerRefusedError):
            await asking.by_id_token(place, token, nonce=NONCE)
    assert accounts.calls["/jwks"] == 1, "it was read a moment ago"
    monkeypatch.setattr(customer_accounts, "UNKNOWN_KEY_PAUSE", 0.0)
    assert await asking.by_id_token(place, token, nonce=NONCE) == 7


async def test_many_at_once_discover_once(accounts: Accounts, place: AccountsPlace, asking: CustomerAccounts) -> None:
    token = accounts.id_token()
    await asyncio.gather(*(asking.by_id_token(place, token, nonce=NONCE) for _ in range(20)))
    assert accounts.calls["/.well-known/openid-configuration"] == 1


async def test_an_access_token_is_shown_to_the_shop_s_api(
    accounts: Accounts, place: AccountsPlace, asking: CustomerAccounts
) -> None:
    assert await asking.by_access_token(place, "shcat_good") == 7
    with pytest.raises(CustomerRefusedError):
        await asking.by_access_token(place, "shcat_bad")
    for body in (b"{}", b"[]", b'{"data":null}', b'{"data":{"customer":{"id":"gid://shopify/Order/1"}}}'):
        accounts.instead["/graphql"] = (200, body)
        with pytest.raises(CustomerRefusedError):
            await asking.by_access_token(place, "shcat_good")
    accounts.instead["/graphql"] = (502, b"{}")
    with pytest.raises(AccountsUnavailableError):
        await asking.by_access_token(place, "shcat_good")


@pytest.mark.parametrize(
    "answer",
    [
        (404, b"{}"),
        (200, b"not json"),
        (200, b"[]"),
        (302, b""),
        (200, b'{"issuer":"https://evil.example","jwks_uri":"https://evil.example/jwks"}'),
        (200, b'{"issuer":7,"jwks_uri":null}'),
        (200, b'{"issuer":"' + b"x" * 100_000 + b'"}'),
    ],
)
async def test_a_discovery_document_that_cannot_be_trusted_is_not_used(
    accounts: Accounts, place: AccountsPlace, asking: CustomerAccounts, answer: tuple[int, bytes]
) -> None:
    accounts.instead["/.well-known/openid-configuration"] = answer
    with pytest.raises(AccountsUnavailableError):
        await asking.by_id_token(place, accounts.id_token(), nonce=NONCE)


@pytest.mark.parametrize(
    ("url", "is_trusted"),
    [
        ("https://www.acme.example/jwks", True),
        ("https://account.acme.example/authentication", True),
        ("https://acme.example/x", True),
        ("https://acme.myshopify.com/x", True),
        ("https://shopify.com/authentication/1/.well-known/jwks.json", True),
        ("http://www.acme.example/jwks", False),
        ("https://notacme.example/", False),
        ("https://evil.shopify.com/", False),
        ("https://other.myshopify.com/", False),
        ("https://acme.example@evil.example/", False),
        ("https://acme.example:8443/", False),
        ("https://acme.example.evil.example/", False),
        ("file:///etc/passwd", False),
        ("", False),
        (None, False),
    ],
)
def test_documents_name_addresses_of_the_shop_or_shopify_alone(url: object, is_trusted: bool) -> None:
    assert REAL.trusts(url) is is_trusted


async def test_a_merchant_s_domain_leads_to_nothing_inside(accounts: Accounts, asking: CustomerAccounts) -> None:
    # Its name resolves to loopback, as a hostile one may.
    inside = replace(REAL, storefront_domain="localhost")
    with pytest.raises(AccountsUnavailableError):
        await asking.by_access_token(inside, "shcat_good")
    assert not accounts.calls


async def test_a_shop_that_does_not_answer_is_given_up() -> None:
    stuck = asyncio.Event()

    async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await stuck.wait()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    place = replace(REAL, shopify_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    async with server:
        asking = CustomerAccounts(timeout=0.2)
        began = time.monotonic()
        # Those who wait behind the first do not each find out for themselves.
        found = await asyncio.gather(
            *(asking.by_access_token(place, "shcat_good") for _ in range(100)), return_exceptions=True
        )
        assert time.monotonic() - began < 10
        assert all(isinstance(each, AccountsUnavailableError) and "within 0.2 s" in str(each) for each in found)
        stuck.set()
