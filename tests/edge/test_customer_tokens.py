"""Customers' tokens: which are believed."""

from __future__ import annotations

import hmac
import time
from base64 import urlsafe_b64encode
from typing import Any

import jwt
import orjson
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sellflow.edge import customer_tokens
from sellflow.edge.customer_tokens import (
    CustomerSession,
    TokenVerifier,
    add_signing_key,
    ensure_signing_key,
    issue_token,
)
from sellflow.edge.problems import Problem
from sellflow.postgres.database import Pool, SessionConnection
from sellflow.secrets import Vault

TTL = 3600


@pytest.fixture
def verifier(web_pool: Pool) -> TokenVerifier:
    return TokenVerifier(web_pool, ttl=TTL)


async def current_key(owner: SessionConnection, vault: Vault) -> tuple[str, Ed25519PrivateKey]:
    row = await owner.fetchrow("SELECT kid, private_key FROM signing_keys WHERE retired_at IS NULL")
    assert row is not None
    private = await vault.open(owner, row["private_key"], shop_id=None, purpose=f"signing-key/{row['kid']}")
    return row["kid"], Ed25519PrivateKey.from_private_bytes(bytes.fromhex(private))


def claims(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - claims are JSON
    """A customer's claims; None leaves one out."""
    now = int(time.time())
    usual = {"iss": "sellflow", "aud": "sellflow-mobile", "sub": "7", "shop": 1, "iat": now, "exp": now + 60}
    return {name: value for name, value in (usual | changes).items() if value is not None}


async def refusal(verifier: TokenVerifier, token: str) -> str:
    with pytest.raises(Problem) as caught:
        await verifier.verify(token)
    assert (caught.value.status, caught.value.code) == (401, "auth.invalid_token")
    assert ("www-authenticate", "Bearer") in caught.value.headers
    return caught.value.detail


async def test_an_issued_token_names_its_shop_and_customer(
    owner: SessionConnection, vault: Vault, verifier: TokenVerifier
) -> None:
    session = CustomerSession(shop_id=2**62, customer_id=2**63 - 1)
    assert await verifier.verify(await issue_token(owner, vault, session, ttl=60)) == session


async def test_no_other_algorithm_is_believed(owner: SessionConnection, vault: Vault, verifier: TokenVerifier) -> None:
    kid, key = await current_key(owner, vault)
    await refusal(verifier, jwt.encode(claims(), "", algorithm="none", headers={"kid": kid}))

    def part(value: object) -> bytes:
        return urlsafe_b64encode(orjson.dumps(value)).rstrip(b"=")

    public = key.public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    for secret in (public.public_bytes_raw(), pem):
        signed = part({"alg": "HS256", "typ": "JWT", "kid": kid}) + b"." + part(claims())
        mac = urlsafe_b64encode(hmac.digest(secret, signed, "sha256")).rstrip(b"=")
        await refusal(verifier, (signed + b"." + mac).decode())


async def test_no_other_key_is_believed(owner: SessionConnection, vault: Vault, verifier: TokenVerifier) -> None:
    kid, _ = await current_key(owner, vault)
    stranger = Ed25519PrivateKey.generate()
    for headers in ({"kid": kid}, {"kid": "unknown"}, {"kid": ""}, {}):
        await refusal(verifier, jwt.encode(claims(), stranger, algorithm="EdDSA", headers=headers))


async def test_wrong_or_missing_claims_are_refused(
    owner: SessionConnection, vault: Vault, verifier: TokenVerifier
) -> None:
    kid, key = await current_key(owner, vault)

    def signed(**changes: Any) -> str:  # noqa: ANN401 - claims are JSON
        return jwt.encode(claims(**changes), key, algorithm="EdDSA", headers={"kid": kid})

    assert await verifier.verify(signed()) == CustomerSession(1, 7)
    assert await verifier.verify(signed(aud=["sellflow-mobile", "other"])) == CustomerSession(1, 7)
    now = int(time.time())
    wrong: list[dict[str, Any]] = [
        {"exp": now - 60},
        {"iat": now + 600},
        {"nbf": now + 600},
        {"aud": "sellflow-admin"},
        {"iss": "somebody"},
        {"exp": "soon"},
        {"sub": "7; DROP TABLE accounts"},
        {"sub": "-7"},
        {"sub": "\N{ARABIC-INDIC DIGIT SEVEN}"},
        {"sub": ""},
        {"sub": str(2**63)},
        {"sub": "9" * 5000},
        {"shop": "1"},
        {"shop": 0},
        {"shop": -1},
        {"shop": True},
        {"shop": 1.0},
        {"shop": 2**63},
        {"shop": [1]},
    ]
    for changes in [*wrong, *({name: None} for name in claims())]:
        await refusal(verifier, signed(**changes))


async def test_rubbish_is_refused_and_raises_nothing_else(verifier: TokenVerifier) -> None:
    deep = urlsafe_b64encode(b"[" * 30_000).decode()
    listed = urlsafe_b64encode(b"[1]").decode().rstrip("=")
    for token in ("", ".", "..", "a.b.c", "é.é.é", "\x00", "x" * 10_000, f"{deep}.e30.AA", f"{listed}.e30.AA"):
        await refusal(verifier, token)


async def test_a_rotated_key_is_believed_until_its_last_token_has_run_out(
    owner: SessionConnection, vault: Vault, web_pool: Pool
) -> None:
    session = CustomerSession(1, 7)
    old = await issue_token(owner, vault, session, ttl=TTL)
    await add_signing_key(owner, vault)
    new = await issue_token(owner, vault, session, ttl=TTL)
    assert jwt.get_unverified_header(old)["kid"] != jwt.get_unverified_header(new)["kid"]
    for token in (old, new):
        assert await TokenVerifier(web_pool, ttl=TTL).verify(token) == session

    await owner.execute("UPDATE signing_keys SET retired_at = retired_at - interval '1 day'")
    await refusal(TokenVerifier(web_pool, ttl=TTL), old)
    assert await TokenVerifier(web_pool, ttl=TTL).verify(new) == session


async def test_a_key_made_while_the_process_runs_is_found(
    owner: SessionConnection, vault: Vault, verifier: TokenVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = CustomerSession(1, 7)
    await verifier.verify(await issue_token(owner, vault, session, ttl=60))
    await add_signing_key(owner, vault)
    monkeypatch.setattr(customer_tokens, "UNKNOWN_KEY_PAUSE", 0.0)
    assert await verifier.verify(await issue_token(owner, vault, session, ttl=60)) == session


async def test_the_first_key_is_made_once(owner: SessionConnection, vault: Vault) -> None:
    await ensure_signing_key(owner, vault)
    await ensure_signing_key(owner, vault)
    assert await owner.fetchval("SELECT count(*) FROM signing_keys") == 1
