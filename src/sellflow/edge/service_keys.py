"""Service keys: made, rotated, revoked and found.

A key is shown once, as sfk_ID_SECRET. Stored are its public ID and the SHA-256 of its secret: with 32 random bytes
there is nothing to guess, so a slow hash would only slow us down. Keys are looked up for each request, so that a
revoked one dies at once in every process.
"""

from __future__ import annotations

import hmac
import re
import secrets
import string
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256

from sellflow.errors import ConfigurationError, NotFoundError
from sellflow.postgres.database import Pool, SessionConnection

_FORM = re.compile(r"sfk_([a-z0-9]{12})_([A-Za-z0-9_-]{43})")
_LETTERS = string.ascii_lowercase + string.digits
_KEY = "key_id, shop_id, name, scopes, replaces, created_at, expires_at, revoked_at, last_used_at"


class Scope(StrEnum):
    """What a key may do."""

    DEADLETTERS_READ = "deadletters:read"
    DEADLETTERS_WRITE = "deadletters:write"
    ENDPOINTS_READ = "endpoints:read"
    ENDPOINTS_WRITE = "endpoints:write"
    QUEUES_READ = "queues:read"
    INVENTORY_WRITE = "inventory:write"
    LOYALTY_READ = "loyalty:read"
    LOYALTY_WRITE = "loyalty:write"


@dataclass(frozen=True, slots=True)
class ServiceKey:
    """A key as it is listed; `shop_id` is None for one of the whole installation."""

    key_id: str
    shop_id: int | None
    name: str
    scopes: list[str]
    replaces: str | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None

    def state(self, now: datetime) -> str:
        """Return whether it is active, expired or revoked."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "active"


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made, with its text: nobody can be shown it again."""

    key: ServiceKey
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class FoundKey:
    """A key that somebody showed, and that is valid."""

    key_id: str
    shop_id: int | None
    name: str
    scopes: frozenset[str]


def check_scopes(scopes: Iterable[str]) -> list[Scope]:
    """Return scopes in order, each once.

    Raises
    ------
    ConfigurationError
        If there is none, or one that does not exist.
    """
    chosen = sorted(set(scopes))
    unknown = [each for each in chosen if each not in list(Scope)]
    if unknown or not chosen:
        raise ConfigurationError(f"a key needs scopes out of {', '.join(Scope)}; not {', '.join(unknown) or 'none'}")
    return [Scope(each) for each in chosen]


async def add_key(
    connection: SessionConnection,
    *,
    name: str,
    scopes: Iterable[str],
    shop_id: int | None,
    valid_for: timedelta | None = None,
) -> NewKey:
    """Make a key, as the owner; `shop_id` None is the whole installation, `valid_for` None is without end.

    Raises
    ------
    ConfigurationError
        If a scope does not exist, or the name is empty.
    """
    chosen = check_scopes(scopes)
    if not name.strip():
        raise ConfigurationError("a key needs a name that says whose it is")
    return await _insert(connection, name.strip(), chosen, shop_id, valid_for=valid_for, replaces=None)


async def _insert(
    connection: SessionConnection,
    name: str,
    scopes: Iterable[str],
    shop_id: int | None,
    *,
    valid_for: timedelta | None,
    replaces: str | None,
) -> NewKey:
    key_id = "".join(secrets.choice(_LETTERS) for _ in range(12))
    secret = secrets.token_urlsafe(32)
    row = await connection.fetchrow(
        f"""
        INSERT INTO service_keys (key_id, shop_id, name, scopes, secret_hash, replaces, expires_at)
        VALUES ($1, $2, $3, $4, $5, $6, clock_timestamp() + $7::interval)
        RETURNING {_KEY}
        """,
        key_id,
        shop_id,
        name,
        list(scopes),
        _hash(secret),
        replaces,
        valid_for,
    )
    assert row is not None
    return NewKey(ServiceKey(**row), f"sfk_{key_id}_{secret}")


async def list_keys(connection: SessionConnection) -> list[ServiceKey]:
    """Return every key, as the owner, the eldest first."""
    rows = await connection.fetch(f"SELECT {_KEY} FROM service_keys ORDER BY created_at, key_id")
    return [ServiceKey(**row) for row in rows]


async def rotate_key(connection: SessionConnection, key_id: str, *, overlap: timedelta) -> NewKey:
    """Make a key that may do what another may, which ends after `overlap`; the new one lasts as long as it would have.

    Raises
    ------
    NotFoundError
        If there is no such key, or it is not valid any more.
    """
    async with connection.transaction():
        row = await connection.fetchrow(
            f"""
            SELECT {_KEY} FROM service_keys
            WHERE key_id = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())
            FOR UPDATE
            """,
            key_id,
        )
        if row is None:
            raise NotFoundError(f"there is no valid key {key_id}; `sellflow keys list` shows those there are")
        old = ServiceKey(**row)
        lifetime = None if old.expires_at is None else old.expires_at - old.created_at
        new = await _insert(connection, old.name, old.scopes, old.shop_id, valid_for=lifetime, replaces=key_id)
        await connection.execute(
            """
            UPDATE service_keys SET expires_at = LEAST(expires_at, clock_timestamp() + $2::interval) WHERE key_id = $1
            """,
            key_id,
            overlap,
        )
    return new


async def revoke_key(connection: SessionConnection, key_id: str) -> None:
    """End a key at once.

    Raises
    ------
    NotFoundError
        If there is no such key.
    """
    found = await connection.execute(
        "UPDATE service_keys SET revoked_at = COALESCE(revoked_at, clock_timestamp()) WHERE key_id = $1", key_id
    )
    if found == "UPDATE 0":
        raise NotFoundError(f"there is no key {key_id}; `sellflow keys list` shows those there are")


async def find_key(pool: Pool, text: str) -> FoundKey | None:
    """Return the key that somebody showed, if it is valid, and note its use once a minute at most."""
    form = _FORM.fullmatch(text)
    if form is None:
        return None
    row = await pool.fetchrow("SELECT * FROM find_service_key($1)", form[1])
    # The secret is hashed and compared whatever was found, in the same time.
    is_right = hmac.compare_digest(_hash(form[2]), row["secret_hash"] if row else bytes(32))
    if row is None or not is_right or not row["is_alive"]:
        return None
    if not row["use_is_noted"]:
        await pool.execute("SELECT note_service_key_use($1)", form[1])
    return FoundKey(row["key_id"], row["shop_id"], row["name"], frozenset(row["scopes"]))


def _hash(secret: str) -> bytes:
    return sha256(secret.encode()).digest()
