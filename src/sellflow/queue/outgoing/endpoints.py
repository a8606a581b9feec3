"""What operators, merchants and services do with endpoints. Runs as the owner or as the `admin` login."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import asyncpg
import orjson

from sellflow.errors import ConfigurationError, NotFoundError
from sellflow.postgres.database import Connection, SessionConnection
from sellflow.queue.event_log import emit
from sellflow.queue.outgoing import rules, store
from sellflow.queue.outgoing.addresses import Allowance, check_url, region_of
from sellflow.queue.outgoing.handlers import due
from sellflow.queue.outgoing.models import Endpoint, EndpointState
from sellflow.queue.outgoing.signatures import new_secret
from sellflow.queue.registry import Registry
from sellflow.queue.topics import EmittedEvent, matches
from sellflow.secrets import Vault
from sellflow.secrets.unsealed import seal_all

_ENDPOINT = """
    endpoint_id, shop_id, kind, address, topics, description, state, paused_at, pause_reason, failures, failing_since,
    created_at
"""


async def add_endpoint(
    connection: Connection,
    registry: Registry,
    vault: Vault,
    *,
    address: str,
    topics: list[str],
    shop_id: int | None,
    allowance: Allowance,
    description: str = "",
) -> tuple[Endpoint, str | None]:
    """Add an endpoint; return it with its secret, which is shown this once. An SNS topic has none.

    `shop_id` is None for a service of the installation's own, which hears every shop.

    Raises
    ------
    ConfigurationError
        If the address or a topic is refused, or the address is an endpoint already.
    """
    patterns = rules.check_patterns(topics, registry.topics)
    kind = "sns" if address.startswith("arn:") else "webhook"
    if kind == "sns" and shop_id is not None:
        raise ConfigurationError("SNS is published to with the installation's own credentials: not for a shop")
    if kind == "sns":
        region_of(address)
    else:
        check_url(address, allowance)
    async with connection.transaction():
        endpoint = await _insert(
            connection, kind=kind, address=address, topics=patterns, shop_id=shop_id, description=description
        )
        secret = None if kind == "sns" else await _add_secret(connection, vault, endpoint)
        await bind_endpoints(connection, registry)
    return endpoint, secret


async def _insert(
    connection: Connection, *, kind: str, address: str, topics: list[str], shop_id: int | None, description: str
) -> Endpoint:
    try:
        row = await connection.fetchrow(
            f"""
            INSERT INTO endpoints (shop_id, kind, address, topics, description) VALUES ($1, $2, $3, $4, $5)
            RETURNING {_ENDPOINT}
            """,
            shop_id,
            kind,
            address,
            topics,
            description,
        )
    except asyncpg.UniqueViolationError as error:
        raise ConfigurationError(f"{address} is an endpoint already: `sellflow endpoints list` shows it") from error
    assert row is not None
    return _endpoint(row)


async def _add_secret(connection: Connection, vault: Vault, endpoint: Endpoint) -> str:
    secret = new_secret()
    purpose = store.secret_purpose(endpoint.endpoint_id)
    await connection.execute(
        "INSERT INTO endpoint_secrets (endpoint_id, shop_id, secret) VALUES ($1, $2, $3)",
        endpoint.endpoint_id,
        endpoint.shop_id,
        await vault.seal(connection, secret, shop_id=endpoint.shop_id, purpose=purpose),
    )
    return secret


async def seal_endpoint_secrets(connection: SessionConnection, vault: Vault) -> None:
    """Seal the secrets that an earlier version stored in the clear."""

    async def seal(secret_id: str, plain: str) -> None:
        row = await connection.fetchrow(
            "SELECT endpoint_id, shop_id FROM endpoint_secrets WHERE secret_id = $1", int(secret_id)
        )
        if row is None:  # it ran out, and went with a rotation
            return
        purpose = store.secret_purpose(row["endpoint_id"])
        sealed = await vault.seal(connection, plain, shop_id=row["shop_id"], purpose=purpose)
        await connection.execute("UPDATE endpoint_secrets SET secret = $2 WHERE secret_id = $1", int(secret_id), sealed)

    await seal_all(connection, "endpoint", seal)


async def bind_endpoints(connection: Connection, registry: Registry) -> None:
    """Have the topics that endpoints subscribed to queued for them; safe to run again, and part of `migrate`.

    Topics are bound, not patterns: `#` would bring an endpoint the events of its own deliveries. A topic that a newer
    version declares is bound by its migration. No binding is ever removed: a topic that nobody hears any more is
    queued, and nobody is found who wants it.
    """
    patterns = await connection.fetch(
        "SELECT DISTINCT unnest(topics) AS pattern FROM endpoints WHERE state <> 'removed'"
    )
    wanted = [
        topic
        for topic in rules.subscribable(registry.topics)
        if any(matches(row["pattern"], topic) for row in patterns)
    ]
    await connection.execute("SELECT bind_endpoint_topics($1)", wanted)


async def list_endpoints(connection: Connection, *, shop_id: int | None = None) -> list[Endpoint]:
    """Return the endpoints that were not removed: a shop's, or everybody's."""
    rows = await connection.fetch(
        f"""
        SELECT {_ENDPOINT} FROM endpoints
        WHERE state <> 'removed' AND ($1::bigint IS NULL OR shop_id = $1)
        ORDER BY endpoint_id
        """,
        shop_id,
    )
    return [_endpoint(row) for row in rows]


async def find_endpoint(connection: Connection, endpoint_id: int) -> Endpoint:
    """Return an endpoint.

    Raises
    ------
    NotFoundError
        If there is none of that id, or it was removed.
    """
    row = await connection.fetchrow(
        f"SELECT {_ENDPOINT} FROM endpoints WHERE endpoint_id = $1 AND state <> 'removed'", endpoint_id
    )
    if row is None:
        raise NotFoundError(f"there is no endpoint {endpoint_id}; `sellflow endpoints list` shows those there are")
    return _endpoint(row)


async def rotate_secret(connection: Connection, vault: Vault, endpoint_id: int, *, overlap: timedelta) -> str:
    """Give an endpoint a new secret and return it; the one before it signs besides for as long as `overlap`.

    Raises
    ------
    ConfigurationError
        If it is an SNS topic, which has no secret.
    """
    async with connection.transaction():
        # Locked, so that of two rotations at once the second finds the first one's secret.
        await connection.execute("SELECT FROM endpoints WHERE endpoint_id = $1 FOR UPDATE", endpoint_id)
        endpoint = await find_endpoint(connection, endpoint_id)
        if endpoint.kind == "sns":
            raise ConfigurationError("an SNS topic has no secret: who may read it is up to AWS")
        await connection.execute(
            """
            WITH expired AS (
                DELETE FROM endpoint_secrets WHERE endpoint_id = $1 AND valid_until <= clock_timestamp()
            )
            UPDATE endpoint_secrets SET valid_until = clock_timestamp() + $2
            WHERE endpoint_id = $1 AND valid_until IS NULL
            """,
            endpoint_id,
            overlap,
        )
        return await _add_secret(connection, vault, endpoint)


async def pause_endpoint(connection: Connection, endpoint_id: int, *, reason: str) -> None:
    """Tell an endpoint nothing for a while; what it misses is kept until it is resumed."""
    await find_endpoint(connection, endpoint_id)
    await connection.execute(
        """
        UPDATE endpoints SET state = 'paused', paused_at = clock_timestamp(), pause_reason = $2
        WHERE endpoint_id = $1 AND state = 'active'
        """,
        endpoint_id,
        reason,
    )


async def resume_endpoint(connection: Connection, registry: Registry, endpoint_id: int) -> int:
    """Tell an endpoint of events again, first of those it missed; return how many these are."""
    async with connection.transaction():
        # FOR UPDATE waits for whoever is about to hold a delivery, and makes later ones see the endpoint active.
        await connection.execute("SELECT FROM endpoints WHERE endpoint_id = $1 FOR UPDATE", endpoint_id)
        await find_endpoint(connection, endpoint_id)
        await connection.execute(
            """
            UPDATE endpoints
            SET state = 'active', paused_at = NULL, pause_reason = NULL, failures = 0, failing_since = NULL
            WHERE endpoint_id = $1
            """,
            endpoint_id,
        )
        held = await connection.fetch(
            """
            UPDATE endpoint_deliveries SET state = 'pending', round = 0
            WHERE endpoint_id = $1 AND state = 'held'
            RETURNING delivery_id, shop_id
            """,
            endpoint_id,
        )
        await _queue(connection, registry, held)
    return len(held)


async def remove_endpoint(connection: Connection, endpoint_id: int) -> None:
    """Tell an endpoint nothing any more and forget its secrets. Its delivery log stays as long as the event log."""
    async with connection.transaction():
        await connection.execute("SELECT FROM endpoints WHERE endpoint_id = $1 FOR UPDATE", endpoint_id)
        await find_endpoint(connection, endpoint_id)
        await connection.execute(
            "UPDATE endpoints SET state = $2, paused_at = NULL, pause_reason = NULL WHERE endpoint_id = $1",
            endpoint_id,
            EndpointState.REMOVED.value,
        )
        await connection.execute("DELETE FROM endpoint_secrets WHERE endpoint_id = $1", endpoint_id)
        await connection.execute(
            """
            UPDATE endpoint_deliveries SET state = 'failed', last_error = 'the endpoint was removed'
            WHERE endpoint_id = $1 AND state = 'held'
            """,
            endpoint_id,
        )


async def send_test(connection: Connection, registry: Registry, endpoint_id: int) -> tuple[int, str]:
    """Send an endpoint a test event, by the way that every event takes; return its shop and key, to find it by.

    It is sent although the endpoint is paused, tried once, and no sign of the endpoint's health.

    Raises
    ------
    NotFoundError
        If there is no such endpoint, or no shop yet whose event it could be.
    """
    endpoint = await find_endpoint(connection, endpoint_id)
    shop_id = endpoint.shop_id or await connection.fetchval("SELECT min(shop_id) FROM shops")
    if shop_id is None:
        raise NotFoundError("there is no shop yet, and every event is one of a shop: add one with `sellflow shops add`")
    key = f"test:{endpoint_id}:{datetime.now(UTC).isoformat()}"
    payload = {
        "endpoint_id": endpoint_id,
        "of_service": endpoint.shop_id is None,
        "message": "This is a test. Whoever reads it has checked its signature, we hope.",
    }
    async with connection.transaction():
        await emit(connection, registry, [EmittedEvent(shop_id, rules.ENDPOINT_TEST, key, orjson.dumps(payload))])
    return shop_id, key


async def replay_deliveries(
    connection: Connection,
    registry: Registry,
    endpoint_id: int,
    *,
    delivery_id: int | None = None,
    since: datetime | None = None,
) -> int:
    """Send deliveries of an endpoint again: one, delivered or failed, or all that failed since a time.

    Returns how many these are. What is on its way already is left alone, so that asking twice sends once. Each keeps
    its webhook-id, and the dead letters of failed ones are marked as replayed. One whose message is a dead letter for
    another reason, such as a worker that died of it, has failed as well, although no attempt could say so.
    """
    await find_endpoint(connection, endpoint_id)
    async with connection.transaction():
        rows = await connection.fetch(
            """
            UPDATE endpoint_deliveries d SET state = 'pending', round = 0
            WHERE d.endpoint_id = $1
              AND ($2::bigint IS NULL OR d.delivery_id = $2)
              AND ($3::timestamptz IS NULL OR d.created_at >= $3)
              AND (d.state = 'failed' OR (d.state = 'delivered' AND d.delivery_id = $2) OR (
                  d.state = 'pending' AND EXISTS (
                      SELECT FROM dead_letters l
                      WHERE l.queue = 'outgoing_deliveries' AND l.key = 'delivery:' || d.delivery_id
                        AND l.state = 'waiting'
                  )
              ))
            RETURNING d.delivery_id, d.shop_id
            """,
            endpoint_id,
            delivery_id,
            since,
        )
        await _resolve_dead_letters(connection, rows)
        await _queue(connection, registry, rows)
    return len(rows)


async def _resolve_dead_letters(connection: Connection, deliveries: list[asyncpg.Record]) -> None:
    await connection.execute(
        """
        UPDATE dead_letters SET state = 'replayed', resolved_at = clock_timestamp()
        WHERE queue = 'outgoing_deliveries' AND state = 'waiting' AND key = ANY ($1::text[])
        """,
        [f"delivery:{row['delivery_id']}" for row in deliveries],
    )


async def _queue(connection: Connection, registry: Registry, deliveries: list[asyncpg.Record]) -> None:
    await emit(connection, registry, [due(row["delivery_id"], row["shop_id"]) for row in deliveries])


def _endpoint(row: asyncpg.Record) -> Endpoint:
    return Endpoint(**{**row, "state": EndpointState(row["state"])})
