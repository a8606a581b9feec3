"""Customers' tokens: who a mobile request acts for.

A token is a JWT signed with EdDSA (RFC 8037) by a key of the installation. The algorithm is pinned, the key is
found by its `kid`, and shop and customer stand under the signature. Keys live in the database, so that every web
process accepts the same ones and a rotation needs no restart.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from secrets import token_hex
from typing import Annotated, Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from sellflow.edge.limits import Kind, Limits
from sellflow.edge.problems import Problem
from sellflow.postgres.database import Connection, Pool, SessionConnection
from sellflow.secrets import Vault
from sellflow.secrets.unsealed import seal_all

ALGORITHM = "EdDSA"
ISSUER = "sellflow"
AUDIENCE = "sellflow-mobile"
LEEWAY = 5  # seconds that two clocks may differ
LARGEST_ID = 2**63 - 1
UNKNOWN_KEY_PAUSE = 1.0  # seconds between two looks for a key that was not there

bearer = HTTPBearer(auto_error=False, scheme_name="customer", description="A customer's token")


@dataclass(frozen=True, slots=True)
class CustomerSession:
    """The customer that a request acts for."""

    shop_id: int
    customer_id: int


async def ensure_signing_key(connection: SessionConnection, vault: Vault) -> None:
    """Make the first key; the owner's task, part of `sellflow migrate`."""
    if not await connection.fetchval("SELECT EXISTS (SELECT 1 FROM signing_keys WHERE retired_at IS NULL)"):
        await add_signing_key(connection, vault)


async def add_signing_key(connection: SessionConnection, vault: Vault) -> str:
    """Make a new key that signs from now on; tokens by the ones before stay valid until they run out."""
    key = Ed25519PrivateKey.generate()
    kid = token_hex(8)
    sealed = await vault.seal(connection, key.private_bytes_raw().hex(), shop_id=None, purpose=_purpose(kid))
    async with connection.transaction():
        await connection.execute("UPDATE signing_keys SET retired_at = now() WHERE retired_at IS NULL")
        await connection.execute(
            "INSERT INTO signing_keys (kid, private_key, public_key) VALUES ($1, $2, $3)",
            kid,
            sealed,
            key.public_key().public_bytes_raw(),
        )
    return kid


async def seal_signing_keys(connection: SessionConnection, vault: Vault) -> None:
    """Seal the keys that an earlier version stored in the clear."""

    async def seal(kid: str, plain: str) -> None:
        sealed = await vault.seal(connection, plain, shop_id=None, purpose=_purpose(kid))
        await connection.execute("UPDATE signing_keys SET private_key = $2 WHERE kid = $1", kid, sealed)

    await seal_all(connection, "signing_key", seal)


def _purpose(kid: str) -> str:
    return f"signing-key/{kid}"


async def issue_token(connection: Connection, vault: Vault, session: CustomerSession, *, ttl: int) -> str:
    """Return a token for a customer that is valid for `ttl` seconds."""
    row = await connection.fetchrow(
        "SELECT kid, private_key FROM signing_keys WHERE retired_at IS NULL ORDER BY created_at DESC LIMIT 1"
    )
    assert row is not None, "migrate makes a key"
    now = int(time.time())
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": str(session.customer_id),
        "shop": session.shop_id,
        "iat": now,
        "exp": now + ttl,
    }
    private = await vault.open(connection, row["private_key"], shop_id=None, purpose=_purpose(row["kid"]))
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(private))
    return jwt.encode(claims, key, algorithm=ALGORITHM, headers={"kid": row["kid"]})


class TokenVerifier:
    """Verifies tokens with the installation's public keys, kept in memory by kid."""

    def __init__(self, pool: Pool, *, ttl: int) -> None:
        self._pool = pool
        self._ttl = ttl
        self._keys: dict[str, Ed25519PublicKey] = {}
        self._looked_at = 0.0

    async def verify(self, token: str) -> CustomerSession:
        """Return the session of a token.

        Raises
        ------
        Problem
            401, when the token is malformed, expired, not ours, or signed by an unknown key.
        """
        try:
            key = await self._key(jwt.get_unverified_header(token))
            claims = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                issuer=ISSUER,
                leeway=LEEWAY,
                options={"require": ["exp", "iat", "iss", "aud", "sub", "shop"]},
            )
            return _session(claims)
        except (jwt.PyJWTError, ValueError) as error:
            raise unauthorized("auth.invalid_token", f"The token was refused: {error}.") from error

    async def _key(self, header: dict[str, Any]) -> Ed25519PublicKey:
        kid = header.get("kid")
        if not isinstance(kid, str) or not kid:
            raise ValueError("its header names no key")
        if kid not in self._keys and time.monotonic() - self._looked_at > UNKNOWN_KEY_PAUSE:
            self._looked_at = time.monotonic()
            # A retired key is dropped once the last token it signed has run out.
            rows = await self._pool.fetch(
                """
                SELECT kid, public_key FROM signing_keys
                WHERE retired_at IS NULL OR retired_at > now() - make_interval(secs => $1)
                """,
                float(self._ttl + LEEWAY),
            )
            self._keys = {row["kid"]: Ed25519PublicKey.from_public_bytes(row["public_key"]) for row in rows}
        if kid not in self._keys:
            raise ValueError("its key is not known here")
        return self._keys[kid]


def _session(claims: dict[str, Any]) -> CustomerSession:
    shop, subject = claims["shop"], claims["sub"]
    is_shop = isinstance(shop, int) and not isinstance(shop, bool) and 0 < shop <= LARGEST_ID
    if not is_shop or not subject.isascii() or not subject.isdigit() or int(subject) > LARGEST_ID:
        raise ValueError("its claims are not those of a customer")
    return CustomerSession(shop_id=shop, customer_id=int(subject))


def unauthorized(code: str, detail: str) -> Problem:
    """Return a 401 that says how to authenticate."""
    return Problem(401, code, detail, headers=[("www-authenticate", "Bearer")])


async def customer_session(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]
) -> CustomerSession:
    """Return the session of the request's bearer token (a FastAPI dependency)."""
    if credentials is None:
        raise unauthorized("auth.missing_token", "Send the customer's token as `Authorization: Bearer …`.")
    verifier: TokenVerifier = request.app.state.token_verifier
    session = await verifier.verify(credentials.credentials)
    limits: Limits = request.app.state.limits
    await limits.take(Kind.MOBILE, session.shop_id)
    return session


CurrentCustomer = Annotated[CustomerSession, Depends(customer_session)]
