"""The SQL of tokens. Every function works on a connection that sees the shop, under any login."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

import asyncpg

from sellflow.postgres.database import Connection
from sellflow.secrets import Vault
from sellflow.secrets.purposes import app_secret
from sellflow.shopify.domains import base_url_of
from sellflow.shopify.tokens.models import Client, Stored, TokenKind

_LONGEST_ERROR = 500


async def find_token(connection: Connection, shop_id: int) -> Stored | None:
    """Return what is stored of a shop's token; None where the shop removed the app or has none."""
    row = await connection.fetchrow(
        """
        SELECT s.app_id, s.domain, a.shopify_url, t.kind, t.access_token, t.refresh_token, t.previous_refresh_token,
               t.scopes, EXTRACT(epoch FROM t.expires_at - clock_timestamp())::double precision AS seconds_left,
               GREATEST(0, EXTRACT(epoch FROM t.retry_at - clock_timestamp()))::double precision AS retry_in,
               t.failures, COALESCE(t.last_error, '') AS last_error, t.broken_at IS NOT NULL AS is_broken
        FROM shops s JOIN access_tokens t USING (shop_id), app_of_shop(s.shop_id) a
        WHERE s.shop_id = $1 AND s.uninstalled_at IS NULL
        """,
        shop_id,
    )
    return None if row is None else _stored(shop_id, row)


def _stored(shop_id: int, row: asyncpg.Record) -> Stored:
    return Stored(
        shop_id=shop_id,
        app_id=row["app_id"],
        domain=row["domain"],
        base_url=base_url_of(row["domain"], row["shopify_url"]),
        kind=TokenKind(row["kind"]),
        sealed_token=row["access_token"],
        sealed_refresh=row["refresh_token"],
        sealed_previous=row["previous_refresh_token"],
        scopes=frozenset(row["scopes"]),
        seconds_left=row["seconds_left"],
        retry_in=row["retry_in"] or 0.0,
        failures=row["failures"],
        last_error=row["last_error"],
        is_broken=row["is_broken"],
    )


async def find_client(connection: Connection, vault: Vault, shop_id: int) -> Client | None:
    """Return the app of a shop as the shop's token endpoint knows it, with its secret opened."""
    row = await connection.fetchrow(
        """
        SELECT a.app_id, a.handle, s.domain, a.shopify_url, a.client_id, a.client_secret
        FROM shops s, app_of_shop(s.shop_id) a WHERE s.shop_id = $1
        """,
        shop_id,
    )
    if row is None:
        return None
    secret = await vault.open(connection, row["client_secret"], shop_id=None, purpose=app_secret(row["handle"]))
    base_url = base_url_of(row["domain"], row["shopify_url"])
    return Client(row["app_id"], row["domain"], base_url, row["client_id"], secret)


async def domain_of(connection: Connection, shop_id: int) -> str | None:
    """Return a shop's domain, for a message about it."""
    domain: str | None = await connection.fetchval("SELECT domain FROM shops WHERE shop_id = $1", shop_id)
    return domain


async def put_grant(
    connection: Connection,
    shop_id: int,
    *,
    kind: TokenKind,
    access_token: bytes,
    expires_in: float | None,
    refresh_token: bytes | None,
    refresh_expires_in: float | None,
    scopes: Iterable[str],
) -> None:
    """Store what a merchant granted, in place of whatever was there."""
    await connection.execute(
        """
        INSERT INTO access_tokens (shop_id, kind, access_token, expires_at, refresh_token, refresh_expires_at, scopes)
        VALUES ($1, $2, $3, clock_timestamp() + make_interval(secs => $4), $5,
                clock_timestamp() + make_interval(secs => $6), $7)
        ON CONFLICT (shop_id) DO UPDATE
        SET kind = EXCLUDED.kind, access_token = EXCLUDED.access_token, expires_at = EXCLUDED.expires_at,
            refresh_token = EXCLUDED.refresh_token, refresh_expires_at = EXCLUDED.refresh_expires_at,
            previous_refresh_token = NULL, scopes = EXCLUDED.scopes, granted_at = clock_timestamp(),
            obtained_at = clock_timestamp(), retry_at = NULL, failures = 0, last_error = NULL, broken_at = NULL
        """,
        shop_id,
        kind.value,
        access_token,
        expires_in,
        refresh_token,
        refresh_expires_in,
        list(scopes),
    )


async def put_renewed(
    connection: Connection,
    shop_id: int,
    *,
    kind: TokenKind,
    access_token: bytes,
    expires_in: float | None,
    refresh_token: bytes | None,
    refresh_expires_in: float | None,
    used_refresh_token: bytes | None,
    scopes: Iterable[str],
) -> bool:
    """Store a renewed pair, and keep the refresh token that brought it until its replacement was used.

    False where the shop removed the app meanwhile.
    """
    stored = await connection.fetchval(
        """
        UPDATE access_tokens
        SET kind = $2, access_token = $3, expires_at = clock_timestamp() + make_interval(secs => $4),
            refresh_token = $5, refresh_expires_at = clock_timestamp() + make_interval(secs => $6),
            previous_refresh_token = $7, scopes = $8,
            obtained_at = clock_timestamp(), retry_at = NULL, failures = 0, last_error = NULL, broken_at = NULL
        WHERE shop_id = $1
        RETURNING true
        """,
        shop_id,
        kind.value,
        access_token,
        expires_in,
        refresh_token,
        refresh_expires_in,
        used_refresh_token,
        list(scopes),
    )
    return bool(stored)


async def note_failure(connection: Connection, shop_id: int, *, error: str, retry_in: float) -> None:
    """Write down that a renewal failed for no fault of the tokens, and when it may be tried again."""
    await connection.execute(
        """
        UPDATE access_tokens
        SET failures = failures + 1, last_error = $2, retry_at = clock_timestamp() + make_interval(secs => $3)
        WHERE shop_id = $1
        """,
        shop_id,
        error[:_LONGEST_ERROR],
        retry_in,
    )


async def note_broken(connection: Connection, shop_id: int, *, error: str) -> None:
    """Write down that Shopify refuses every token of a shop."""
    await connection.execute(
        """
        UPDATE access_tokens
        SET broken_at = COALESCE(broken_at, clock_timestamp()), last_error = $2, failures = failures + 1
        WHERE shop_id = $1
        """,
        shop_id,
        error[:_LONGEST_ERROR],
    )


async def erase_tokens(connection: Connection, shop_ids: Iterable[int]) -> None:
    """Forget the tokens of shops that removed the app: Shopify has ended them already."""
    await connection.execute("DELETE FROM access_tokens WHERE shop_id = ANY ($1::bigint[])", list(shop_ids))


async def set_scopes(connection: Connection, told: Sequence[tuple[int, datetime, Sequence[str]]]) -> None:
    """Store what Shopify says of shops' scopes (id, time of the change, scopes); of each shop the newest counts."""
    await connection.execute(
        """
        UPDATE access_tokens t SET scopes = n.scopes, scopes_told_at = n.at
        FROM (
            SELECT DISTINCT ON (shop_id) shop_id, at, string_to_array(listed, ',') AS scopes
            FROM unnest($1::bigint[], $2::timestamptz[], $3::text[]) AS u (shop_id, at, listed)
            ORDER BY shop_id, at DESC
        ) n
        WHERE t.shop_id = n.shop_id AND n.at > COALESCE(t.scopes_told_at, '-infinity')
        """,
        [shop_id for shop_id, _, _ in told],
        [at for _, at, _ in told],
        [",".join(scopes) for _, _, scopes in told],
    )


async def tokens_to_renew(connection: Connection, *, early: float, limit: int) -> list[int]:
    """Return the shops whose tokens end within `early` seconds, the nearest end first; the owner's view."""
    rows = await connection.fetch(
        """
        SELECT t.shop_id
        FROM access_tokens t JOIN shops s USING (shop_id)
        WHERE t.broken_at IS NULL AND t.expires_at < clock_timestamp() + make_interval(secs => $1)
          AND (t.retry_at IS NULL OR t.retry_at <= clock_timestamp()) AND s.uninstalled_at IS NULL
        ORDER BY t.expires_at LIMIT $2
        """,
        early,
        limit,
    )
    return [row["shop_id"] for row in rows]
