-- The event log --------------------------------------------------------------------------------------------
-- Every webhook and every domain event, once, raw. A message in a queue is only a reference to one of these.
CREATE SEQUENCE event_ids AS bigint;

CREATE TABLE events (
    day          date NOT NULL,
    event_id     bigint NOT NULL,
    app_id       integer NOT NULL,
    -- NULL while a webhook's shop is not installed; adopt_events() fills it in.
    shop_id      bigint,
    shop_domain  text NOT NULL,
    topic        text NOT NULL,
    -- What the event is about, for example order:450789469. Empty where the payload does not say.
    key          text NOT NULL,
    -- Shopify's Webhook-Id, or NULL for an event of our own.
    webhook_id   text,
    triggered_at timestamptz,
    received_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- The bytes as received: the signature was made over them and the audit needs them.
    payload      bytea NOT NULL,
    PRIMARY KEY (day, event_id)
) PARTITION BY RANGE (day);
ALTER TABLE events ALTER COLUMN payload SET STORAGE EXTERNAL; -- compressing costs more than it saves at this rate

-- "What happened to this order?"
CREATE INDEX events_key ON events (shop_id, key) WHERE key <> '';
-- Webhooks that wait for their shop to be installed.
CREATE INDEX events_unknown_shop ON events (app_id, shop_domain) WHERE shop_id IS NULL;

CALL protect_tenant_table('events');
CREATE POLICY ingest_inserts ON events FOR INSERT TO sellflow_ingest WITH CHECK (true);
GRANT SELECT ON events TO sellflow_web;
GRANT SELECT, INSERT ON events TO sellflow_worker;
GRANT INSERT ON events TO sellflow_ingest;
GRANT USAGE ON SEQUENCE event_ids TO sellflow_worker, sellflow_ingest;

-- What a queue carries for an event.
CREATE FUNCTION event_reference(day date, event_id bigint, shop_id bigint, key text) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE
AS $$ SELECT jsonb_build_object('day', day, 'event_id', event_id, 'shop_id', shop_id, 'key', key) $$;

-- Which deliveries were stored. Not partitioned: a Webhook-Id is unique whatever day its retry arrives.
-- Holds ids alone, and is exempt from row-level security: the ingest login must see a duplicate of any shop.
CREATE TABLE receipts (
    app_id      integer NOT NULL,
    shop_domain text NOT NULL,
    webhook_id  text NOT NULL,
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (app_id, shop_domain, webhook_id)
);
GRANT SELECT, INSERT ON receipts TO sellflow_ingest;

-- What a queue did with an event; partitioned and dropped together with the event log.
CREATE TABLE outcomes (
    day        date NOT NULL,
    event_id   bigint NOT NULL,
    queue      text NOT NULL,
    shop_id    bigint NOT NULL,
    handler    text NOT NULL,
    outcome    text NOT NULL CHECK (outcome IN ('done', 'dead')),
    detail     text NOT NULL DEFAULT '',
    attempts   integer NOT NULL,
    handled_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (day, event_id, queue)
) PARTITION BY RANGE (day);
CALL protect_tenant_table('outcomes');
GRANT SELECT ON outcomes TO sellflow_web;
GRANT SELECT, INSERT, UPDATE ON outcomes TO sellflow_worker;

-- Partitions -----------------------------------------------------------------------------------------------
-- Makes the partition of one table and day. Rows that the default partition took meanwhile move into it.
CREATE PROCEDURE make_day_partition(parent text, for_day date)
LANGUAGE plpgsql
AS $$
DECLARE
    part  text := format('%s_%s', parent, to_char(for_day, 'YYYYMMDD'));
    spare text := parent || '_default';
BEGIN
    IF to_regclass(part) IS NOT NULL THEN
        RETURN;
    END IF;
    -- Rows of up to a page stay in one piece: cutting a 3 kB order into TOAST chunks would double what is written.
    EXECUTE format(
        'CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE) '
        'WITH (toast_tuple_target = 8160)', part, parent
    );
    -- Nobody has a grant on a partition itself; forced security without a policy keeps it so.
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', part);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', part);
    EXECUTE format('CREATE POLICY owner_all ON %I TO CURRENT_USER USING (true) WITH CHECK (true)', part);
    -- Nobody may add a row of this day between the move and the attachment, which would be refused for it.
    EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', spare);
    EXECUTE format(
        'WITH moved AS (DELETE FROM %I WHERE day = $1 RETURNING *) INSERT INTO %I SELECT * FROM moved', spare, part
    ) USING for_day;
    EXECUTE format(
        'ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, part, for_day, for_day + 1
    );
END
$$;
REVOKE ALL ON PROCEDURE make_day_partition FROM PUBLIC;

CREATE PROCEDURE make_day_partitions(days_ahead integer)
LANGUAGE plpgsql
AS $$
DECLARE
    today date := (now() AT TIME ZONE 'UTC')::date;
    d     date;
BEGIN
    -- Two schedulers never make the same partition at once.
    PERFORM pg_advisory_xact_lock(hashtext('sellflow.make_day_partitions'));
    FOR d IN SELECT generate_series(today, today + days_ahead, interval '1 day')::date LOOP
        CALL make_day_partition('events', d);
        CALL make_day_partition('outcomes', d);
    END LOOP;
END
$$;
REVOKE ALL ON PROCEDURE make_day_partitions FROM PUBLIC;

-- Takes what arrives on a day that nobody made a partition for.
CREATE TABLE events_default PARTITION OF events DEFAULT;
CREATE TABLE outcomes_default PARTITION OF outcomes DEFAULT;
DO $$
DECLARE
    spare text;
BEGIN
    FOREACH spare IN ARRAY ARRAY['events_default', 'outcomes_default'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', spare);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', spare);
        EXECUTE format('CREATE POLICY owner_all ON %I TO CURRENT_USER USING (true) WITH CHECK (true)', spare);
    END LOOP;
END
$$;

-- Failures -------------------------------------------------------------------------------------------------
-- Messages that left their queue for a while, under the number that is their place in it: those that wait for
-- their next attempt (pgmq slows down fifty-fold behind many invisible messages), and those that may not overtake
-- an elder message of their key. A queue table: exempt from row-level security, holds references only.
CREATE TABLE parked_messages (
    queue     text NOT NULL,
    msg_id    bigint NOT NULL,
    shop_id   bigint NOT NULL,
    key       text NOT NULL,
    message   jsonb NOT NULL,
    headers   jsonb,
    -- When it goes back; NULL while it waits behind an elder message.
    due_at    timestamptz,
    parked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (queue, msg_id)
);
CREATE INDEX parked_messages_due ON parked_messages (queue, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX parked_messages_key ON parked_messages (queue, shop_id, key, msg_id);
GRANT SELECT, INSERT, UPDATE, DELETE ON parked_messages TO sellflow_worker;
GRANT SELECT ON parked_messages TO sellflow_web;

-- One row for each failed attempt. A replay begins a new round of attempts.
CREATE TABLE failed_attempts (
    shop_id       bigint NOT NULL,
    day           date NOT NULL,
    event_id      bigint NOT NULL,
    queue         text NOT NULL,
    replay        integer NOT NULL,
    attempt       integer NOT NULL,
    handler       text NOT NULL,
    error_code    text NOT NULL,
    error_class   text NOT NULL,
    error_message text NOT NULL,
    failed_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    retry_at      timestamptz,
    PRIMARY KEY (shop_id, day, event_id, queue, replay, attempt)
);
CALL protect_tenant_table('failed_attempts');
GRANT SELECT ON failed_attempts TO sellflow_web;
GRANT SELECT, INSERT ON failed_attempts TO sellflow_worker;

-- Messages set aside after their last attempt.
CREATE TABLE dead_letters (
    dead_letter_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    shop_id         bigint NOT NULL,
    queue           text NOT NULL,
    msg_id          bigint NOT NULL,
    topic           text NOT NULL,
    day             date NOT NULL,
    event_id        bigint NOT NULL,
    key             text NOT NULL,
    handler         text NOT NULL,
    attempts        integer NOT NULL,
    error_code      text NOT NULL,
    error_class     text NOT NULL,
    error_message   text NOT NULL,
    stack_trace     text NOT NULL,
    first_failed_at timestamptz NOT NULL,
    failed_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Whether later messages of its key wait until somebody replays or discards it.
    blocks_key      boolean NOT NULL,
    replays         integer NOT NULL DEFAULT 0,
    state           text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'replayed', 'discarded')),
    resolved_at     timestamptz,
    UNIQUE (shop_id, queue, day, event_id)
);
CREATE INDEX dead_letters_waiting ON dead_letters (queue, failed_at) WHERE state = 'waiting';
CREATE INDEX dead_letters_blocking ON dead_letters (queue, shop_id, key, msg_id)
    WHERE blocks_key AND state = 'waiting';
CALL protect_tenant_table('dead_letters');
GRANT SELECT ON dead_letters TO sellflow_web;
GRANT SELECT, INSERT, UPDATE ON dead_letters TO sellflow_worker;

-- Work that an operator stopped for a while: of one queue, of one shop, or of one shop in one queue. NULL is all.
CREATE TABLE pauses (
    queue     text,
    shop_id   bigint,
    reason    text NOT NULL,
    paused_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE NULLS NOT DISTINCT (queue, shop_id)
);
GRANT SELECT ON pauses TO sellflow_worker, sellflow_web;

-- Webhooks that came before their shop -----------------------------------------------------------------------
-- Gives the waiting events of now known shops their shop id, and returns them so that they can be queued.
CREATE FUNCTION adopt_events()
RETURNS TABLE (day date, event_id bigint, shop_id bigint, topic text, key text)
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
    UPDATE events e
    SET shop_id = s.shop_id
    FROM shops s
    WHERE e.shop_id IS NULL AND s.app_id = e.app_id AND s.domain = e.shop_domain
    RETURNING e.day, e.event_id, s.shop_id, e.topic, e.key
$$;
REVOKE ALL ON FUNCTION adopt_events FROM PUBLIC;

-- pgmq's own tables, exempt from row-level security by name: messages hold references, never data of a shop.
GRANT SELECT ON pgmq.meta, pgmq.topic_bindings TO sellflow_worker, sellflow_ingest;

-- Claiming -------------------------------------------------------------------------------------------------
-- Whose a message is, and what it is about. Empty for what somebody put there who knows no events.
CREATE FUNCTION message_shop(message jsonb) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT COALESCE((message ->> 'shop_id')::bigint, 0) $$;

CREATE FUNCTION message_key(message jsonb) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT COALESCE(message ->> 'key', '') $$;

-- Whoever lets followers of a key go, or looks which keys are free, does it alone in its queue.
CREATE FUNCTION lock_claims(queue text) RETURNS void
LANGUAGE sql
AS $$ SELECT pg_advisory_xact_lock(hashtext('sellflow.claims'), hashtext(queue)) $$;

-- Prepares a queue that pgmq.create() made: grants, indexes, and its function claim_QUEUE(). Safe to run again.
--
-- claim_QUEUE(visibility_timeout, quantity, after_shop) goes round the shops, from the one after `after_shop` on,
-- and takes of each the eldest messages whose key is free, so that a shop's first message waits for no other
-- shop's backlog. A key is busy while a message of it is in flight; behind one that is parked or a dead letter that
-- blocks, messages are moved out of the queue (returned with read_ct NULL), so that no claim meets them twice.
-- Claims of one queue come one after the other: each sees what the others hold. `place` is the shop's in the round.
CREATE PROCEDURE prepare_queue(queue text)
LANGUAGE plpgsql
AS $procedure$
DECLARE
    q text := 'q_' || queue;
BEGIN
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON pgmq.%I TO sellflow_worker', q);
    -- SELECT on the id alone: pgmq's send returns it.
    EXECUTE format('GRANT INSERT, SELECT (msg_id) ON pgmq.%I TO sellflow_ingest', q);
    EXECUTE format(
        'CREATE INDEX IF NOT EXISTS %I ON pgmq.%I (message_shop(message), msg_id)', q || '_shop', q
    );
    EXECUTE format(
        'CREATE INDEX IF NOT EXISTS %I ON pgmq.%I (message_shop(message), message_key(message)) WHERE read_ct > 0',
        q || '_in_flight', q
    );
    -- Nothing here reads by time, and each index costs every webhook.
    EXECUTE format('DROP INDEX IF EXISTS pgmq.%I', q || '_vt_idx');
    EXECUTE replace(replace($definition$
CREATE OR REPLACE FUNCTION claim_{name}(visibility_timeout double precision, quantity integer, after_shop bigint)
RETURNS TABLE (msg_id bigint, read_ct integer, message jsonb, headers jsonb, place bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
-- The plan must not depend on when it was made: an empty queue looks best read from end to end.
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off
AS $function$
#variable_conflict use_column
BEGIN
    -- A claim lost in a crash is made again, so nobody waits for the disk.
    PERFORM set_config('synchronous_commit', 'off', true);
    PERFORM lock_claims('{name}');
    IF EXISTS (SELECT FROM pauses p WHERE (p.queue = '{name}' OR p.queue IS NULL) AND p.shop_id IS NULL) THEN
        RETURN;
    END IF;
    RETURN QUERY
    WITH RECURSIVE later AS (
        -- Shops that are paused are passed over, and take nobody's place in the round.
        SELECT after_shop AS shop, 0 AS place, true AS is_paused
        UNION ALL
        SELECT n.shop, l.place + (NOT n.is_paused)::integer, n.is_paused
        FROM later l CROSS JOIN LATERAL (
            SELECT s.shop, EXISTS (SELECT FROM pauses p WHERE p.queue = '{name}' AND p.shop_id = s.shop)
                OR EXISTS (SELECT FROM pauses p WHERE p.queue IS NULL AND p.shop_id = s.shop) AS is_paused
            FROM (
                SELECT message_shop(q.message) AS shop FROM {table} q
                WHERE message_shop(q.message) > l.shop ORDER BY message_shop(q.message), q.msg_id LIMIT 1
            ) s
        ) n WHERE l.place < quantity
    ), earlier AS (
        SELECT -9223372036854775808 AS shop, 0 AS place, true AS is_paused
        UNION ALL
        SELECT n.shop, e.place + (NOT n.is_paused)::integer, n.is_paused
        FROM earlier e CROSS JOIN LATERAL (
            SELECT s.shop, EXISTS (SELECT FROM pauses p WHERE p.queue = '{name}' AND p.shop_id = s.shop)
                OR EXISTS (SELECT FROM pauses p WHERE p.queue IS NULL AND p.shop_id = s.shop) AS is_paused
            FROM (
                SELECT message_shop(q.message) AS shop FROM {table} q
                WHERE message_shop(q.message) > e.shop AND message_shop(q.message) <= after_shop
                ORDER BY message_shop(q.message), q.msg_id LIMIT 1
            ) s
        ) n WHERE e.place < quantity
    ), round AS MATERIALIZED (
        SELECT r.shop, row_number() OVER () AS place
        FROM (
            SELECT shop FROM later WHERE NOT is_paused UNION ALL SELECT shop FROM earlier WHERE NOT is_paused
            LIMIT quantity
        ) r
    ), share AS (
        -- Twice an equal share: shops with little leave room to those with more.
        SELECT (2 * quantity + count(*) - 1) / GREATEST(count(*), 1) AS most FROM round
    ), visible AS MATERIALIZED (
        SELECT r.shop, r.place, m.msg_id, m.key, row_number() OVER (PARTITION BY r.shop ORDER BY m.msg_id) AS turn
        FROM round r CROSS JOIN share s CROSS JOIN LATERAL (
            SELECT q.msg_id, message_key(q.message) AS key
            FROM {table} q
            WHERE message_shop(q.message) = r.shop AND q.vt <= clock_timestamp() AND NOT (
                message_key(q.message) <> '' AND EXISTS (
                    SELECT FROM {table} h
                    WHERE message_shop(h.message) = r.shop AND message_key(h.message) = message_key(q.message)
                      AND h.read_ct > 0 AND h.vt > clock_timestamp()
                )
            )
            ORDER BY message_shop(q.message), q.msg_id LIMIT s.most
        ) m
    ), chosen AS MATERIALIZED (
        SELECT * FROM visible ORDER BY turn, place LIMIT quantity
    ), locked AS MATERIALIZED (
        SELECT c.msg_id, c.shop, c.place, c.key FROM chosen c JOIN {table} q ON q.msg_id = c.msg_id
        ORDER BY q.msg_id FOR UPDATE OF q SKIP LOCKED
    ), locked_elsewhere AS MATERIALIZED (
        -- Claimed long ago, and only now being finished: its key is busy, although it could be seen.
        SELECT msg_id, shop, key FROM chosen EXCEPT SELECT msg_id, shop, key FROM locked
    ), free AS MATERIALIZED (
        SELECT l.msg_id, l.shop, l.place, l.key, l.key <> '' AND (
            EXISTS (
                SELECT FROM parked_messages p
                WHERE p.queue = '{name}' AND p.shop_id = l.shop AND p.key = l.key AND p.msg_id < l.msg_id
            ) OR EXISTS (
                SELECT FROM dead_letters d
                WHERE d.queue = '{name}' AND d.shop_id = l.shop AND d.key = l.key AND d.msg_id < l.msg_id
                  AND d.blocks_key AND d.state = 'waiting'
            )
        ) AS follows
        FROM locked l
        WHERE l.key = '' OR NOT EXISTS (
            SELECT FROM locked_elsewhere e WHERE e.shop = l.shop AND e.key = l.key AND e.msg_id < l.msg_id
        )
    ), moved AS (
        DELETE FROM {table} q USING free f WHERE q.msg_id = f.msg_id AND f.follows
        RETURNING q.msg_id, f.shop, f.key, q.message, q.headers
    ), parked AS (
        INSERT INTO parked_messages (queue, msg_id, shop_id, key, message, headers)
        SELECT '{name}', m.msg_id, m.shop, m.key, m.message, m.headers FROM moved m
        RETURNING msg_id, message, headers
    ), claimed AS (
        UPDATE {table} q
        SET vt = clock_timestamp() + make_interval(secs => visibility_timeout), read_ct = q.read_ct + 1,
            last_read_at = clock_timestamp()
        FROM free f WHERE q.msg_id = f.msg_id AND NOT f.follows
        RETURNING q.msg_id, q.read_ct, q.message, q.headers, f.place
    )
    SELECT c.msg_id, c.read_ct, c.message, c.headers, c.place FROM claimed c
    UNION ALL
    SELECT p.msg_id, NULL::integer, p.message, p.headers, NULL::bigint FROM parked p;
END
$function$
    $definition$, '{name}', queue), '{table}', format('pgmq.%I', q));
    EXECUTE format('REVOKE ALL ON FUNCTION %I FROM PUBLIC', 'claim_' || queue);
    EXECUTE format('GRANT EXECUTE ON FUNCTION %I TO sellflow_worker', 'claim_' || queue);
END
$procedure$;
REVOKE ALL ON PROCEDURE prepare_queue FROM PUBLIC;
