"""The worker's SQL of outgoing deliveries: whom to tell, what to send, and what came of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from sellflow.postgres.database import Connection
from sellflow.queue.outgoing.models import (
    Attempt,
    DeliveryState,
    EndpointState,
    Health,
    Listener,
    NewDelivery,
    Parcel,
)
from sellflow.secrets import Vault


async def listeners(connection: Connection) -> list[Listener]:
    """Return the endpoints of the batch's shops and of services.

    They are locked against being resumed, so that no delivery is held for an endpoint whose held ones were just sent.
    """
    rows = await connection.fetch(
        """
        SELECT endpoint_id, shop_id, topics, state = 'paused' AS is_paused
        FROM endpoints WHERE state <> 'removed'
        ORDER BY endpoint_id
        FOR KEY SHARE
        """
    )
    return [Listener(**row) for row in rows]


async def add_deliveries(connection: Connection, new: Sequence[NewDelivery]) -> dict[int, int]:
    """Add deliveries, those that exist already excepted; return the shops of those to be sent now, by delivery id."""
    rows = await connection.fetch(
        """
        INSERT INTO endpoint_deliveries (endpoint_id, shop_id, day, event_id, topic, state)
        SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::date[], $4::bigint[], $5::text[], $6::text[])
        ON CONFLICT (endpoint_id, day, event_id) DO NOTHING
        RETURNING delivery_id, shop_id, state
        """,
        [each.endpoint_id for each in new],
        [each.shop_id for each in new],
        [each.day for each in new],
        [each.event_id for each in new],
        [each.topic for each in new],
        [each.state.value for each in new],
    )
    return {row["delivery_id"]: row["shop_id"] for row in rows if row["state"] == DeliveryState.PENDING}


def secret_purpose(endpoint_id: int) -> str:
    """Return what an endpoint's secrets are sealed for."""
    return f"endpoint/{endpoint_id}/secret"


async def find_parcel(connection: Connection, vault: Vault, delivery_id: int) -> Parcel | None:
    """Return what an attempt at a delivery needs, or None where there is no such delivery any more.

    Raises
    ------
    SecretsError
        If the endpoint's secrets do not open.
    """
    row = await connection.fetchrow(
        """
        SELECT d.delivery_id, d.shop_id, d.state, d.round, e.endpoint_id, e.shop_id IS NULL AS of_service,
               e.state AS endpoint_state, e.kind, e.address, d.event_id, d.topic, v.shop_domain, v.payload,
               v.received_at,
               ARRAY(
                   SELECT s.secret FROM endpoint_secrets s
                   WHERE s.endpoint_id = e.endpoint_id
                     AND (s.valid_until IS NULL OR s.valid_until > clock_timestamp())
                   ORDER BY s.secret_id DESC
               ) AS secrets
        FROM endpoint_deliveries d
        JOIN endpoints e ON e.endpoint_id = d.endpoint_id AND (e.shop_id IS NULL OR e.shop_id = d.shop_id)
        LEFT JOIN events v ON v.day = d.day AND v.event_id = d.event_id
        WHERE d.delivery_id = $1
        """,
        delivery_id,
    )
    if row is None:
        return None
    states = {"state": DeliveryState(row["state"]), "endpoint_state": EndpointState(row["endpoint_state"])}
    owner = None if row["of_service"] else row["shop_id"]
    purpose = secret_purpose(row["endpoint_id"])
    secrets = [await vault.open(connection, each, shop_id=owner, purpose=purpose) for each in row["secrets"]]
    return Parcel(**{**row, **states, "secrets": secrets})


async def record_attempts(connection: Connection, ends: Sequence[tuple[Attempt, DeliveryState]]) -> None:
    """Write attempts into the log, and where their deliveries stand now."""
    if not ends:
        return
    await connection.execute(
        """
        WITH made AS (
            SELECT * FROM unnest(
                $1::bigint[], $2::bigint[], $3::timestamptz[], $4::integer[], $5::integer[], $6::text[], $7::text[],
                $8::text[], $9::text[]
            ) AS m (delivery_id, shop_id, attempted_at, duration_ms, status, error_code, error_message, excerpt, state)
        ), told AS (
            UPDATE endpoint_deliveries d
            SET state = m.state, attempts = d.attempts + 1, round = d.round + 1, last_status = m.status,
                last_error = m.error_message,
                delivered_at = CASE WHEN m.state = 'delivered' THEN m.attempted_at ELSE d.delivered_at END
            FROM made m WHERE d.delivery_id = m.delivery_id
        )
        INSERT INTO endpoint_attempts
            (delivery_id, shop_id, attempted_at, duration_ms, status, error_code, error_message, excerpt)
        SELECT delivery_id, shop_id, attempted_at, duration_ms, status, error_code, error_message, excerpt FROM made
        """,
        [each.parcel.delivery_id for each, _ in ends],
        [each.parcel.shop_id for each, _ in ends],
        [each.attempted_at for each, _ in ends],
        [each.duration_ms for each, _ in ends],
        [each.answer and each.answer.status for each, _ in ends],
        [each.error and each.error.code for each, _ in ends],
        [each.error and str(each.error).replace("\x00", "\\0")[:2000] for each, _ in ends],
        [each.answer.excerpt if each.answer else "" for each, _ in ends],
        [state.value for _, state in ends],
    )


async def record_health(connection: Connection, attempts: Sequence[Attempt]) -> list[Health]:
    """Count failures in a row, per endpoint; return how those fare that failed. A success ends a row.

    An endpoint that goes on succeeding is not written to. Rows are locked in order, so that two workers wait for
    each other instead of deadlocking.
    """
    worked = {each.parcel.endpoint_id for each in attempts if each.error is None}
    failed: dict[int, list[Attempt]] = {}
    for each in attempts:
        if each.error is not None and each.parcel.endpoint_id not in worked:
            failed.setdefault(each.parcel.endpoint_id, []).append(each)
    ids = [*worked, *failed]
    rows = await connection.fetch(
        """
        WITH news AS (
            SELECT * FROM unnest($1::bigint[], $2::integer[], $3::timestamptz[]) AS n (endpoint_id, failures, since)
        ), held AS MATERIALIZED (
            SELECT e.endpoint_id FROM endpoints e JOIN news n USING (endpoint_id)
            WHERE n.failures > 0 OR e.failures > 0
            ORDER BY e.endpoint_id
            FOR NO KEY UPDATE OF e
        )
        UPDATE endpoints e
        SET failures = CASE WHEN n.failures = 0 THEN 0 ELSE e.failures + n.failures END,
            failing_since = CASE WHEN n.failures = 0 THEN NULL ELSE COALESCE(e.failing_since, n.since) END
        FROM held h JOIN news n USING (endpoint_id)
        WHERE e.endpoint_id = h.endpoint_id
        RETURNING e.endpoint_id, e.failures, e.failing_since, e.state
        """,
        ids,
        [len(failed.get(each, ())) for each in ids],
        [min((a.attempted_at for a in failed.get(each, ())), default=None) for each in ids],
    )
    found = [Health(**{**row, "state": EndpointState(row["state"])}) for row in rows]
    return [each for each in found if each.endpoint_id in failed]


async def pause(connection: Connection, reasons: Mapping[int, str]) -> list[int]:
    """Pause endpoints for these reasons; return the ids of those that were active."""
    if not reasons:
        return []
    rows = await connection.fetch(
        """
        UPDATE endpoints e SET state = 'paused', paused_at = clock_timestamp(), pause_reason = r.reason
        FROM unnest($1::bigint[], $2::text[]) AS r (endpoint_id, reason)
        WHERE e.endpoint_id = r.endpoint_id AND e.state = 'active'
        RETURNING e.endpoint_id
        """,
        list(reasons),
        list(reasons.values()),
    )
    return [row["endpoint_id"] for row in rows]


async def hold(connection: Connection, delivery_ids: Collection[int]) -> set[int]:
    """Keep deliveries until their endpoints are resumed; return those held.

    Whose endpoint was resumed in the meantime is not among them: a resumption waits for this lock, or was first.
    """
    if not delivery_ids:
        return set()
    rows = await connection.fetch(
        """
        WITH owed AS MATERIALIZED (
            SELECT d.delivery_id, e.state
            FROM endpoint_deliveries d JOIN endpoints e USING (endpoint_id)
            WHERE d.delivery_id = ANY ($1::bigint[])
            ORDER BY e.endpoint_id
            FOR KEY SHARE OF e
        )
        UPDATE endpoint_deliveries d SET state = 'held'
        FROM owed o WHERE d.delivery_id = o.delivery_id AND o.state = 'paused' AND d.state <> 'delivered'
        RETURNING d.delivery_id
        """,
        list(delivery_ids),
    )
    return {row["delivery_id"] for row in rows}


async def give_up(connection: Connection, delivery_ids: Collection[int], reason: str) -> None:
    """Note that deliveries are not sent any more."""
    if not delivery_ids:
        return
    await connection.execute(
        "UPDATE endpoint_deliveries SET state = 'failed', last_error = $2 WHERE delivery_id = ANY ($1::bigint[])",
        list(delivery_ids),
        reason,
    )
