-- Dead letters -----------------------------------------------------------------------------------------------
-- Who replayed or discarded it, and why; of the last time, where there were several.
ALTER TABLE dead_letters
    ADD COLUMN resolved_by text NOT NULL DEFAULT '',
    ADD COLUMN reason      text NOT NULL DEFAULT '';

-- Lists and bulk replays walk a queue's by their number, page by page.
CREATE INDEX dead_letters_waiting_pages ON dead_letters (queue, dead_letter_id) WHERE state = 'waiting';

-- Figures of the queues --------------------------------------------------------------------------------------
CREATE INDEX parked_messages_followers ON parked_messages (queue) WHERE due_at IS NULL;

-- How much was handled lately: BRIN, since outcomes are written in the order of time and each index costs every one.
CREATE INDEX outcomes_handled ON outcomes USING brin (handled_at) WITH (pages_per_range = 16, autosummarize = on);

-- How many rows a query has: counted up to 10,000, the planner's estimate above.
CREATE FUNCTION count_or_estimate(query text) RETURNS bigint
LANGUAGE plpgsql
AS $$
DECLARE
    counted bigint;
    plan    json;
BEGIN
    EXECUTE format('SELECT count(*) FROM (%s LIMIT 10000) q', query) INTO counted;
    IF counted = 10000 THEN
        EXECUTE 'EXPLAIN (FORMAT JSON) ' || query INTO plan;
        RETURN GREATEST(counted, (plan -> 0 -> 'Plan' ->> 'Plan Rows')::bigint);
    END IF;
    RETURN counted;
END
$$;
REVOKE ALL ON FUNCTION count_or_estimate FROM PUBLIC;

-- What each queue holds. `waiting` may be claimed now, or would be if nothing were paused; `parked` waits for another
-- attempt; `followers` wait behind an elder message; `dead` waits for somebody's decision. `oldest_seconds` is the age
-- of the oldest that waits, by the time it came (or came back) into the queue, among the first thousand in line:
-- messages that come back stand in front of older ones.
CREATE FUNCTION queue_figures()
RETURNS TABLE (
    queue text, waiting bigint, in_flight bigint, parked bigint, followers bigint, dead bigint,
    oldest_seconds double precision, paused boolean, paused_shops bigint
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
-- The plan must not depend on when a queue was last analysed: nothing here reads one from end to end.
SET enable_seqscan = off SET jit = off
AS $$
DECLARE
    q text;
BEGIN
    FOR queue IN SELECT m.queue_name FROM pgmq.meta m ORDER BY m.queue_name LOOP
        q := format('pgmq.%I', 'q_' || queue);
        in_flight := count_or_estimate(format('SELECT FROM %s WHERE read_ct > 0 AND vt > clock_timestamp()', q));
        waiting := GREATEST(count_or_estimate(format('SELECT FROM %s', q)) - in_flight, 0);
        parked := count_or_estimate(
            format('SELECT FROM parked_messages WHERE queue = %L AND due_at IS NOT NULL', queue)
        );
        followers := count_or_estimate(
            format('SELECT FROM parked_messages WHERE queue = %L AND due_at IS NULL', queue)
        );
        dead := count_or_estimate(format('SELECT FROM dead_letters WHERE queue = %L AND state = ''waiting''', queue));
        EXECUTE format(
            'SELECT COALESCE(extract(epoch FROM clock_timestamp() - min(w.enqueued_at)), 0) FROM ('
            'SELECT enqueued_at FROM %s WHERE vt <= clock_timestamp() ORDER BY msg_id LIMIT 1000) w', q
        ) INTO oldest_seconds;
        SELECT COALESCE(bool_or(p.shop_id IS NULL), false), count(DISTINCT p.shop_id) INTO paused, paused_shops
        FROM pauses p WHERE p.queue = queue_figures.queue OR p.queue IS NULL;
        RETURN NEXT;
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION queue_figures FROM PUBLIC;
GRANT EXECUTE ON FUNCTION queue_figures TO sellflow_web, sellflow_worker;
