"""The SQL of installing apps. Web calls functions for it: it may see no shop before there is one to act for."""

from __future__ import annotations

from collections.abc import Sequence

from sellflow.postgres.database import Connection, Pool, SessionConnection
from sellflow.queue import Event
from sellflow.shops.models import Announcement, Installation


async def find_installation(connection: Connection | Pool, app_id: int, domain: str) -> Installation | None:
    """Return what is known of an app in a shop, or None where it never was there."""
    row = await connection.fetchrow(
        """
        SELECT shop_id, currency, is_uninstalled, kind, scopes, is_broken, granted_ago
        FROM find_installation($1, $2)
        """,
        app_id,
        domain,
    )
    return None if row is None else Installation(**row)


async def install(connection: Connection | Pool, app_id: int, domain: str, currency: str) -> int:
    """Return the id of a shop that Shopify gave a token for: added, or marked as installed again."""
    shop_id: int = await connection.fetchval("SELECT install_shop($1, $2, $3)", app_id, domain, currency)
    return shop_id


async def installed_since(connection: Connection, notices: Sequence[Event]) -> set[int]:
    """Return the events that are older than the last grant of their shop, by Shopify's time where it gave one."""
    rows = await connection.fetch(
        """
        SELECT e.event_id
        FROM unnest($1::date[], $2::bigint[]) AS n (day, event_id)
        JOIN events e USING (day, event_id)
        JOIN access_tokens t ON t.shop_id = e.shop_id
        WHERE t.granted_at > LEAST(e.triggered_at, e.received_at)
        """,
        [event.day for event in notices],
        [event.event_id for event in notices],
    )
    return {row["event_id"] for row in rows}


async def begin_authorization(
    pool: Pool, *, state: bytes, cookie: bytes, app_id: int, domain: str, seconds: float
) -> None:
    """Remember a browser that goes to Shopify: digests of the state and of the cookie that it must come back with."""
    await pool.execute("SELECT begin_authorization($1, $2, $3, $4, $5)", state, cookie, app_id, domain, seconds)


async def end_authorization(pool: Pool, *, state: bytes, cookie: bytes, app_id: int, domain: str) -> bool:
    """Say whether a browser came back with what it went with, in time and for the first time."""
    ended = await pool.fetchval("SELECT end_authorization($1, $2, $3, $4)", state, cookie, app_id, domain)
    return bool(ended)


async def take_announcements(connection: SessionConnection, *, limit: int) -> list[Announcement]:
    """Return what nobody was told of yet of shops' tokens, and take note that it is being told; the owner's."""
    rows = await connection.fetch(
        """
        UPDATE access_tokens t SET announced_at = clock_timestamp()
        FROM shops s
        WHERE s.shop_id = t.shop_id AND t.shop_id IN (
            SELECT shop_id FROM access_tokens
            WHERE announced_at IS NULL OR announced_at < granted_at OR announced_at < broken_at
            ORDER BY shop_id LIMIT $1
            FOR UPDATE SKIP LOCKED
        )
        RETURNING t.shop_id, s.domain, t.scopes, CASE WHEN t.broken_at IS NOT NULL THEN t.last_error END AS broken
        """,
        limit,
    )
    return [Announcement(**row) for row in rows]
