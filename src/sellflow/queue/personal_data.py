"""What the queue and its log hold of people, and how they are erased from it."""

from __future__ import annotations

from sellflow.postgres.database import Connection
from sellflow.postgres.personal_data import Holds, RoomData, Subject, Table

#: What stands in place of an erased text.
ERASED = "erased"


async def _rename_messages(connection: Connection, subject: Subject) -> int:
    """Take the customer's id out of the keys of messages, wherever they wait: all of a key, so its order stays."""
    if subject.customer_id is None:
        return 0
    tables = await connection.fetch(
        """
        SELECT format('pgmq.%I', prefix || queue_name) AS name, prefix || queue_name AS bare
        FROM pgmq.meta CROSS JOIN unnest(ARRAY['q_', 'a_']) AS p (prefix)
        WHERE to_regclass(format('pgmq.%I', prefix || queue_name)) IS NOT NULL
        ORDER BY 1
        """
    )
    renamed = 0
    for table in tables:
        tag = await connection.execute(
            f"""
            UPDATE {table["name"]} SET message = jsonb_set(message, '{{key}}', to_jsonb($3::text))
            WHERE message_shop(message) = $1 AND message_key(message) = $2
            """,
            subject.shop_id,
            f"customer:{subject.customer_id}",
            f"customer:{subject.anonymous_id}",
        )
        renamed += int(tag.removeprefix("UPDATE "))
    return renamed


async def _delete_messages(connection: Connection, shop_id: int, limit: int) -> dict[str, int]:
    """Delete messages of a shop, and what is parked. A worker that holds one finds it gone, and leaves it out."""
    deleted = {}
    queues = await connection.fetch("SELECT queue_name FROM pgmq.meta ORDER BY queue_name")
    for queue in (row["queue_name"] for row in queues):
        for prefix in ("q_", "a_"):
            name = f'pgmq."{prefix}{queue}"'
            if await connection.fetchval("SELECT to_regclass($1) IS NULL", name):
                continue
            tag = await connection.execute(
                f"""
                DELETE FROM {name} WHERE msg_id IN (
                    SELECT msg_id FROM {name} WHERE message_shop(message) = $1 ORDER BY msg_id LIMIT $2
                )
                """,
                shop_id,
                limit,
            )
            deleted[f"pgmq.{prefix}{queue}"] = int(tag.removeprefix("DELETE "))
        tag = await connection.execute("DELETE FROM parked_messages WHERE queue = $1 AND shop_id = $2", queue, shop_id)
        deleted["parked_messages"] = deleted.get("parked_messages", 0) + int(tag.removeprefix("DELETE "))
    return {table: number for table, number in deleted.items() if number}


PERSONAL_DATA = RoomData(
    room="queue",
    tables=(
        Table(
            name="pgmq.q_*",
            holds=Holds.PERSONAL,
            why="keys of messages may be a customer's",
            erase=_rename_messages,
            delete=_delete_messages,
        ),
        Table(name="pgmq.a_*", holds=Holds.PERSONAL, why="as the queues; nothing archives", goes_with="pgmq.q_*"),
        Table(name="pgmq.*", holds=Holds.INSTALLATION, why="pgmq's own list of queues and bindings"),
        Table(
            name="parked_messages",
            holds=Holds.PERSONAL,
            why="keys may be a customer's",
            erase="""
                UPDATE parked_messages p
                SET key = 'customer:' || s.anonymous_id,
                    message = jsonb_set(p.message, '{key}', to_jsonb('customer:' || s.anonymous_id))
                FROM subject s
                WHERE p.queue IN (SELECT queue_name FROM pgmq.meta) AND p.shop_id = s.shop_id
                  AND p.key = 'customer:' || s.customer_id
            """,
            goes_with="pgmq.q_*",
        ),
        Table(
            name="endpoint_attempts",
            holds=Holds.PERSONAL,
            why="what receivers answered, which may be what they were told",
            erase_events=f"""
                UPDATE endpoint_attempts a
                SET excerpt = '', error_message = CASE WHEN a.error_message IS NULL THEN NULL ELSE '{ERASED}' END
                FROM refs r JOIN endpoint_deliveries d ON d.day = r.day AND d.event_id = ANY (r.event_ids)
                WHERE a.delivery_id = d.delivery_id
                  AND (a.excerpt <> '' OR (a.error_message IS NOT NULL AND a.error_message <> '{ERASED}'))
            """,
            export_events="""
                SELECT d.day, d.event_id, a.attempted_at, a.status, a.error_code, a.error_message, a.excerpt
                FROM refs r JOIN endpoint_deliveries d ON d.day = r.day AND d.event_id = ANY (r.event_ids)
                JOIN endpoint_attempts a USING (delivery_id)
                ORDER BY a.attempt_id
            """,
            goes_with="endpoint_deliveries",
        ),
        Table(
            name="endpoint_deliveries",
            holds=Holds.PERSONAL,
            why="the last error of each",
            erase_events=f"""
                UPDATE endpoint_deliveries d SET last_error = '{ERASED}' FROM refs r
                WHERE d.day = r.day AND d.event_id = ANY (r.event_ids)
                  AND d.last_error IS NOT NULL AND d.last_error <> '{ERASED}'
            """,
            export_events="""
                SELECT d.day, d.event_id, d.topic, e.kind AS endpoint_kind, d.state, d.attempts, d.last_status,
                       d.last_error, d.created_at, d.delivered_at
                FROM refs r JOIN endpoint_deliveries d ON d.day = r.day AND d.event_id = ANY (r.event_ids)
                JOIN endpoints e USING (endpoint_id)
                ORDER BY d.delivery_id
            """,
            delete_events="""
                DELETE FROM endpoint_deliveries d USING refs r WHERE d.day = r.day AND d.event_id = ANY (r.event_ids)
            """,
            goes_with="events",
        ),
        Table(
            name="dead_letters",
            holds=Holds.PERSONAL,
            why="messages of errors and stack traces may say anything of an event",
            erase=f"""
                UPDATE dead_letters d
                SET error_message = '{ERASED}', stack_trace = '{ERASED}', reason = '',
                    key = CASE WHEN d.key = 'customer:' || s.customer_id THEN 'customer:' || s.anonymous_id
                               ELSE d.key END
                FROM subject s
                WHERE d.shop_id = s.shop_id AND (
                    d.key = 'customer:' || s.customer_id
                    OR concat_ws(' ', d.error_message, d.stack_trace, d.reason) ~* s.pattern
                )
            """,
            erase_events=f"""
                UPDATE dead_letters d SET error_message = '{ERASED}', stack_trace = '{ERASED}', reason = ''
                FROM refs r
                WHERE d.shop_id = r.shop_id AND d.day = r.day AND d.event_id = ANY (r.event_ids)
                  AND (d.error_message, d.stack_trace, d.reason) <> ('{ERASED}', '{ERASED}', '')
            """,
            export_events="""
                SELECT d.day, d.event_id, d.queue, d.topic, d.key, d.handler, d.attempts, d.error_code, d.error_message,
                       d.failed_at, d.state
                FROM refs r JOIN dead_letters d
                  ON d.shop_id = r.shop_id AND d.day = r.day AND d.event_id = ANY (r.event_ids)
                ORDER BY d.dead_letter_id
            """,
        ),
        Table(
            name="failed_attempts",
            holds=Holds.PERSONAL,
            why="messages of errors may say anything of an event",
            erase=f"""
                UPDATE failed_attempts a SET error_message = '{ERASED}' FROM subject s
                WHERE a.shop_id = s.shop_id AND a.error_message ~* s.pattern
            """,
            erase_events=f"""
                UPDATE failed_attempts a SET error_message = '{ERASED}' FROM refs r
                WHERE a.shop_id = r.shop_id AND a.day = r.day AND a.event_id = ANY (r.event_ids)
                  AND a.error_message <> '{ERASED}'
            """,
            export_events="""
                SELECT a.day, a.event_id, a.queue, a.handler, a.attempt, a.error_code, a.error_message, a.failed_at
                FROM refs r JOIN failed_attempts a
                  ON a.shop_id = r.shop_id AND a.day = r.day AND a.event_id = ANY (r.event_ids)
                ORDER BY a.day, a.event_id, a.queue, a.replay, a.attempt
            """,
        ),
        Table(
            name="outcomes",
            holds=Holds.PERSONAL,
            why="what a handler says of an event, customers' ids among it",
            erase_events=f"""
                UPDATE outcomes o SET detail = '{ERASED}' FROM refs r
                WHERE o.day = r.day AND o.event_id = ANY (r.event_ids) AND o.detail NOT IN ('', '{ERASED}')
            """,
            export_events="""
                SELECT o.day, o.event_id, o.queue, o.handler, o.outcome, o.detail, o.handled_at
                FROM refs r JOIN outcomes o ON o.day = r.day AND o.event_id = ANY (r.event_ids)
                ORDER BY o.event_id, o.queue
            """,
            delete_events="DELETE FROM outcomes o USING refs r WHERE o.day = r.day AND o.event_id = ANY (r.event_ids)",
            goes_with="events",
        ),
        # Erased and deleted by the code that walks through the log, day by day.
        Table(name="events", holds=Holds.PERSONAL, why="webhooks as they came", goes_with="the log's own walk"),
        Table(name="receipts", holds=Holds.PERSONAL, why="ids of what was fed by resource", goes_with="events"),
        Table(name="endpoint_secrets", holds=Holds.SHOP, why="what signs deliveries"),
        Table(name="endpoints", holds=Holds.SHOP, why="addresses of a merchant's own systems"),
        Table(name="pauses", holds=Holds.SHOP, why="what operators stopped", goes_with="shops"),
        Table(name="periodic_jobs", holds=Holds.INSTALLATION, why="when jobs ran"),
        Table(name="service_migrations", holds=Holds.INSTALLATION, why="which scripts ran"),
    ),
    find_linked="""
        SELECT 'dead_letter:' || d.dead_letter_id AS key
        FROM refs r JOIN dead_letters d
          ON d.shop_id = r.shop_id AND d.day = r.day AND d.event_id = ANY (r.event_ids)
    """,
    keeps=frozenset(
        {"attempts", "day", "dead_letter_id", "delivery_id", "endpoint_id", "error_code", "event_id"}
        | {"first_failed_at", "handler", "last_failed_at", "of_service", "paused_at", "queue", "shop_id", "topic"}
    ),
)
