-- Leases ---------------------------------------------------------------------------------------------------
-- Who may do what only one process at a time may do, until when, by this server's clock. Each time a lease is taken
-- its epoch rises: whoever remembers an older one has lost it. Rows stay, or the epochs would begin anew.
CREATE TABLE leases (
    name       text PRIMARY KEY,
    holder     text NOT NULL,
    epoch      bigint NOT NULL,
    expires_at timestamptz NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);

-- Periodic work --------------------------------------------------------------------------------------------
-- When each job is due, and how its runs ended. The jobs themselves are declared in code.
CREATE TABLE periodic_jobs (
    job              text PRIMARY KEY,
    every            double precision NOT NULL CHECK (every > 0),
    next_run_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_started_at  timestamptz,
    last_finished_at timestamptz,
    last_result      text CHECK (last_result IN ('done', 'failed')),
    -- What the last run that was done says of itself.
    last_detail      text,
    -- Why the last run failed, where it did.
    last_error       text,
    runs             bigint NOT NULL DEFAULT 0,
    failures         bigint NOT NULL DEFAULT 0,
    failures_in_row  integer NOT NULL DEFAULT 0,
    -- Times that it was due and nobody ran it.
    missed           bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

-- Old days of the log --------------------------------------------------------------------------------------
-- The days that the event log holds anything of.
CREATE FUNCTION log_days() RETURNS TABLE (day date)
LANGUAGE sql STABLE SET search_path = public, pg_temp
AS $$
    SELECT to_date(right(c.relname, 8), 'YYYYMMDD')
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent IN ('events'::regclass, 'outcomes'::regclass) AND c.relname ~ '_[0-9]{8}$'
    UNION SELECT day FROM events_default
    UNION SELECT day FROM outcomes_default
$$;

-- Of every day before `before` that the event log still holds: what there is of it that is not handled yet. A day
-- may go when all is 0. Nothing can become unhandled again once it is not: events are only stored under the day they
-- come, and messages move from queue to parked to dead letter in one transaction, so one look finds each of them.
--
-- The last column finds messages that were lost: events that a binding, older than they are, wanted in a queue, and
-- which that queue has no outcome of. A binding made while an event came may not have been noticed yet.
CREATE FUNCTION expired_days(before date)
RETURNS TABLE (
    day             date,
    queued          bigint,
    parked          bigint,
    dead_letters    bigint,
    unknown_shops   bigint,
    without_outcome bigint
)
LANGUAGE plpgsql STABLE SET search_path = public, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    all_messages text;
BEGIN
    SELECT string_agg(format('SELECT message FROM pgmq.%I', 'q_' || m.queue_name), ' UNION ALL ')
    INTO all_messages FROM pgmq.meta m;
    RETURN QUERY EXECUTE format(
        $query$
        WITH old AS MATERIALIZED (
            -- Messages hold their day as text of this form.
            SELECT day, to_char(day, 'YYYY-MM-DD') AS as_text FROM log_days() WHERE day < $1
        ), waiting AS MATERIALIZED (
            SELECT message ->> 'day' AS as_text, count(*) AS messages FROM (%s) m
            WHERE (message ->> 'day') COLLATE "C" < to_char($1, 'YYYY-MM-DD') GROUP BY 1
        ), aside AS MATERIALIZED (
            SELECT message ->> 'day' AS as_text, count(*) AS messages FROM parked_messages
            WHERE (message ->> 'day') COLLATE "C" < to_char($1, 'YYYY-MM-DD') GROUP BY 1
        ), cheap AS MATERIALIZED (
            SELECT o.day,
                   COALESCE((SELECT messages FROM waiting w WHERE w.as_text = o.as_text), 0) AS queued,
                   COALESCE((SELECT messages FROM aside a WHERE a.as_text = o.as_text), 0) AS parked,
                   (SELECT count(*) FROM dead_letters d WHERE d.state = 'waiting' AND d.day = o.day) AS dead_letters,
                   (SELECT count(*) FROM events e WHERE e.day = o.day AND e.shop_id IS NULL) AS unknown_shops
            FROM old o
        )
        SELECT c.day, c.queued, c.parked, c.dead_letters, c.unknown_shops,
               -- Reads the whole day, so only where nothing else holds it.
               CASE WHEN c.queued + c.parked + c.dead_letters + c.unknown_shops > 0 THEN 0
                    ELSE events_without_outcome(c.day) END
        FROM cheap c ORDER BY c.day
        $query$,
        COALESCE(all_messages, 'SELECT NULL::jsonb AS message')
    ) USING before;
END
$$;

CREATE FUNCTION events_without_outcome(of_day date) RETURNS bigint
LANGUAGE sql STABLE
AS $$
    WITH routes AS MATERIALIZED (
        SELECT t.topic, b.queue_name AS queue, min(b.bound_at) + interval '1 minute' AS bound_at
        FROM (SELECT DISTINCT topic FROM events WHERE day = of_day) t
        JOIN pgmq.topic_bindings b ON t.topic ~ b.compiled_regex
        GROUP BY t.topic, b.queue_name
    )
    SELECT count(*)
    FROM events e JOIN routes r ON r.topic = e.topic AND r.bound_at < e.received_at
    WHERE e.day = of_day AND e.shop_id IS NOT NULL AND NOT EXISTS (
        SELECT FROM outcomes o WHERE o.day = of_day AND o.event_id = e.event_id AND o.queue = r.queue
    )
$$;
REVOKE ALL ON FUNCTION log_days, expired_days, events_without_outcome FROM PUBLIC;

-- What is pruned together with the log.
CREATE INDEX failed_attempts_day ON failed_attempts USING brin (day);
CREATE INDEX dead_letters_resolved ON dead_letters (day) WHERE state <> 'waiting';

-- Vacuum ---------------------------------------------------------------------------------------------------
-- A queue's rows live for milliseconds: what is dead must go long before a fifth of the table is. Safe to run again;
-- a table that has these values already is not locked.
CREATE PROCEDURE vacuum_often(target regclass)
LANGUAGE plpgsql
AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM pg_class WHERE oid = target AND reloptions @> '{autovacuum_vacuum_threshold=1000}'
    ) THEN
        EXECUTE format(
            'ALTER TABLE %s SET (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0, '
            'autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_threshold = 10000)', target
        );
    END IF;
END
$$;
REVOKE ALL ON PROCEDURE vacuum_often FROM PUBLIC;
CALL vacuum_often('parked_messages');

-- Receipts are pruned by the thousand, page after page.
ALTER TABLE receipts SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.2);
