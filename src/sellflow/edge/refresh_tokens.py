"""Customers' sessions and their refresh tokens: each is used once, and a copy that shows up ends the session.

An app that lost the answer may show a used token once more within some seconds, as long as what it was exchanged for
was not used: that is put out of use, and a new one is given. So a thief and the app cannot both go on: the second to
renew with what it got is found out (RFC 9700, 4.14.2).
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from hashlib import sha256
from typing import ClassVar

import asyncpg

from sellflow.errors import SellflowError
from sellflow.postgres.database import Connection

_FORM = re.compile(r"sfr_([1-9][0-9]{0,17})_([A-Za-z0-9_-]{43})")


class RefusedTokenError(SellflowError):
    """A refresh token is unknown, has run out, or its session has ended."""

    code = "auth.invalid_refresh_token"


class ReusedTokenError(RefusedTokenError):
    """A refresh token was used a second time: one of two who have it should not."""

    code: ClassVar[str] = "auth.refresh_token_reused"

    def __init__(self, message: str, *, session_id: int) -> None:
        super().__init__(message)
        self.session_id = session_id


@dataclass(frozen=True, slots=True)
class Renewal:
    """Whose session was begun or renewed, and the refresh token to renew it with next."""

    customer_id: int
    refresh_token: str = field(repr=False)


def shop_of(token: str) -> int:
    """Return the shop that a refresh token says it is of.

    Raises
    ------
    RefusedTokenError
        If it is none of ours.
    """
    form = _FORM.fullmatch(token)
    if form is None:
        raise RefusedTokenError("it is no refresh token")
    return int(form[1])


async def begin_session(connection: Connection, shop_id: int, customer_id: int, *, ttl: int) -> Renewal:
    """Begin a customer's session, in the caller's transaction."""
    session_id = await connection.fetchval(
        "INSERT INTO customer_sessions (shop_id, customer_id) VALUES ($1, $2) RETURNING session_id",
        shop_id,
        customer_id,
    )
    return Renewal(customer_id, await _issue(connection, shop_id, session_id, ttl=ttl, replaces=None))


async def renew_session(connection: Connection, shop_id: int, token: str, *, ttl: int, leeway: int) -> Renewal:
    """Exchange a refresh token for the next one, in the caller's transaction.

    Raises
    ------
    ReusedTokenError
        If it had been used: whoever calls ends the session then, in a transaction that is not rolled back.
    RefusedTokenError
        If it is not valid.
    """
    session_id = await _lock_session(connection, shop_id, _hash(token))
    row = await _look(connection, shop_id, _hash(token), leeway)
    if row["ended_at"] is not None or row["has_expired"]:
        raise RefusedTokenError("its session has ended, or it has run out: log in again")
    if row["used_at"] is not None:
        if not row["is_recent"] or row["unused_successor"] is None:
            raise ReusedTokenError("it was used before, so its session was ended: log in again", session_id=session_id)
        await _mark_used(connection, shop_id, row["unused_successor"])
    await _mark_used(connection, shop_id, _hash(token))
    renewed = await _issue(connection, shop_id, session_id, ttl=ttl, replaces=_hash(token))
    return Renewal(row["customer_id"], renewed)


async def end_session(connection: Connection, session_id: int, *, reason: str) -> None:
    """End a session: none of its refresh tokens is worth anything from now on."""
    await connection.execute(
        """
        UPDATE customer_sessions SET ended_at = clock_timestamp(), end_reason = $2
        WHERE session_id = $1 AND ended_at IS NULL
        """,
        session_id,
        reason,
    )


async def log_out(connection: Connection, shop_id: int, token: str) -> None:
    """End the session of a refresh token, used or not.

    Raises
    ------
    RefusedTokenError
        If it is not one that we know.
    """
    await end_session(connection, await _lock_session(connection, shop_id, _hash(token)), reason="logout")


async def _lock_session(connection: Connection, shop_id: int, token_hash: bytes) -> int:
    """Return the session of a token, locked: of two exchanges at once the second sees what the first did."""
    session_id = await connection.fetchval(
        """
        SELECT s.session_id FROM refresh_tokens t JOIN customer_sessions s USING (session_id)
        WHERE t.shop_id = $1 AND t.token_hash = $2
        FOR UPDATE OF s
        """,
        shop_id,
        token_hash,
    )
    if session_id is None:
        raise RefusedTokenError("it is unknown: log in again")
    return int(session_id)


async def _look(connection: Connection, shop_id: int, token_hash: bytes, leeway: int) -> asyncpg.Record:
    row = await connection.fetchrow(
        """
        SELECT s.customer_id, s.ended_at, t.used_at, t.expires_at <= clock_timestamp() AS has_expired,
               t.used_at > clock_timestamp() - make_interval(secs => $3) AS is_recent, (
                   SELECT n.token_hash FROM refresh_tokens n
                   WHERE n.session_id = t.session_id AND n.replaces = t.token_hash AND n.used_at IS NULL
               ) AS unused_successor
        FROM refresh_tokens t JOIN customer_sessions s USING (session_id)
        WHERE t.shop_id = $1 AND t.token_hash = $2
        """,
        shop_id,
        token_hash,
        float(leeway),
    )
    assert row is not None, "nothing deletes a token while its session is locked"
    return row


async def _mark_used(connection: Connection, shop_id: int, token_hash: bytes) -> None:
    """Mark a token as used; the time of its first use stays, or the leeway would never end."""
    await connection.execute(
        """
        UPDATE refresh_tokens SET used_at = clock_timestamp()
        WHERE shop_id = $1 AND token_hash = $2 AND used_at IS NULL
        """,
        shop_id,
        token_hash,
    )


async def _issue(connection: Connection, shop_id: int, session_id: int, *, ttl: int, replaces: bytes | None) -> str:
    token = f"sfr_{shop_id}_{secrets.token_urlsafe(32)}"
    await connection.execute(
        """
        INSERT INTO refresh_tokens (shop_id, token_hash, session_id, replaces, expires_at)
        VALUES ($1, $2, $3, $4, clock_timestamp() + make_interval(secs => $5))
        """,
        shop_id,
        _hash(token),
        session_id,
        replaces,
        float(ttl),
    )
    return token


def _hash(token: str) -> bytes:
    return sha256(token.encode()).digest()
