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
-- Messages that wait for their next attempt. They leave their queue for it, because pgmq slows down fifty-fold
-- behind many invisible messages. A queue table: exempt from row-level security, holds references only.
CREATE TABLE parked_messages (
    parked_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue     text NOT NULL,
    message   jsonb NOT NULL,
    failures  integer NOT NULL,
    due_at    timestamptz NOT NULL
);
CREATE INDEX parked_messages_due ON parked_messages (queue, due_at);
GRANT SELECT, INSERT, UPDATE, DELETE ON parked_messages TO sellflow_worker;
GRANT SELECT ON parked_messages TO sellflow_web;

-- One row for each failed attempt.
CREATE TABLE failed_attempts (
    shop_id       bigint NOT NULL,
    day           date NOT NULL,
    event_id      bigint NOT NULL,
    queue         text NOT NULL,
    attempt       integer NOT NULL,
    handler       text NOT NULL,
    error_code    text NOT NULL,
    error_class   text NOT NULL,
    error_message text NOT NULL,
    failed_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    retry_at      timestamptz,
    PRIMARY KEY (shop_id, day, event_id, queue, attempt)
);
CALL protect_tenant_table('failed_attempts');
GRANT SELECT ON failed_attempts TO sellflow_web;
GRANT SELECT, INSERT ON failed_attempts TO sellflow_worker;

-- Messages set aside after their last attempt.
CREATE TABLE dead_letters (
    dead_letter_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    shop_id         bigint NOT NULL,
    queue           text NOT NULL,
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
    failed_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (shop_id, queue, day, event_id)
);
CALL protect_tenant_table('dead_letters');
GRANT SELECT ON dead_letters TO sellflow_web;
GRANT SELECT, INSERT, UPDATE ON dead_letters TO sellflow_worker;

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

-- How much waits ---------------------------------------------------------------------------------------------
-- Messages per queue: visible or in flight, waiting for a retry, and set aside. An exact count up to 10,000,
-- the planner's estimate above, so that a deep queue is not counted through at every look.
CREATE FUNCTION queue_depths() RETURNS TABLE (queue text, waiting bigint, parked bigint, dead bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp
AS $$
BEGIN
    FOR queue IN SELECT m.queue_name FROM pgmq.meta m ORDER BY m.queue_name LOOP
        EXECUTE format('SELECT count(*) FROM (SELECT 1 FROM pgmq.%I LIMIT 10000) counted', 'q_' || queue) INTO waiting;
        IF waiting = 10000 THEN
            SELECT GREATEST(c.reltuples::bigint, 10000) INTO waiting
            FROM pg_class c WHERE c.oid = format('pgmq.%I', 'q_' || queue)::regclass;
        END IF;
        SELECT count(*) INTO parked FROM parked_messages p WHERE p.queue = queue_depths.queue;
        SELECT count(*) INTO dead FROM dead_letters d WHERE d.queue = queue_depths.queue;
        RETURN NEXT;
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION queue_depths FROM PUBLIC;
GRANT EXECUTE ON FUNCTION queue_depths TO sellflow_web, sellflow_worker;

-- pgmq's own tables, exempt from row-level security by name: messages hold references, never data of a shop.
GRANT SELECT ON pgmq.meta, pgmq.topic_bindings TO sellflow_worker, sellflow_ingest;

-- Lets the logins work with a queue that pgmq.create() made.
CREATE PROCEDURE grant_queue(queue text)
LANGUAGE plpgsql
AS $$
BEGIN
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON pgmq.%I TO sellflow_worker', 'q_' || queue);
    -- SELECT on the id alone: pgmq's send returns it.
    EXECUTE format('GRANT INSERT, SELECT (msg_id) ON pgmq.%I TO sellflow_ingest', 'q_' || queue);
END
$$;
REVOKE ALL ON PROCEDURE grant_queue FROM PUBLIC;
