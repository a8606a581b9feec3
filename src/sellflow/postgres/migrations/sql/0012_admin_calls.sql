-- Points -----------------------------------------------------------------------------------------------------
-- The bucket of points that Shopify keeps for a shop, by our own books and its answers (docs/decisions/0016). All
-- processes spend from this row, and hold its lock for one statement at a time.
CREATE TABLE admin_buckets (
    shop_id      bigint PRIMARY KEY REFERENCES shops ON DELETE CASCADE,
    -- What new calls could spend at `measured_at`: the estimates of calls in flight are taken off already.
    level        double precision NOT NULL DEFAULT 0,
    maximum      double precision NOT NULL DEFAULT 1000,
    -- Points that come back every second.
    restore_rate double precision NOT NULL DEFAULT 50 CHECK (restore_rate > 0),
    measured_at  timestamptz NOT NULL,
    -- Whether Shopify has told of the bucket yet; until then one call at a time asks.
    is_known     boolean NOT NULL DEFAULT false,
    -- What calls that ended have cost since the row was made.
    spent        double precision NOT NULL DEFAULT 0,
    -- Calls by name: {"points", "taken_at", "expires_at", "spent"}, with `spent` as it was when it began.
    in_flight    jsonb NOT NULL DEFAULT '{}',
    -- Callers by name who were told to wait: {"points", "since", "until", "is_background"}.
    waiting      jsonb NOT NULL DEFAULT '{}',
    -- Calls in a row that Shopify did not answer properly, and until when nobody is to call for that reason, or
    -- because it asked to be left alone.
    failures     integer NOT NULL DEFAULT 0,
    closed_until timestamptz
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);
CALL protect_tenant_table('admin_buckets');
GRANT SELECT, INSERT (shop_id, measured_at),
    UPDATE (level, maximum, restore_rate, measured_at, is_known, spent, in_flight, waiting, failures, closed_until)
    ON admin_buckets TO sellflow_web, sellflow_worker;

-- Seconds since 1970, as the books have their times.
CREATE FUNCTION epoch_of(moment timestamptz) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT EXTRACT(epoch FROM moment)::double precision $$;

-- What calls in flight were promised.
CREATE FUNCTION promised_points(in_flight jsonb) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT COALESCE(sum((c.value ->> 'points')::double precision), 0) FROM jsonb_each(in_flight) c $$;

-- The books of a shop brought forward to a moment. What processes that died had taken stays spent, since Shopify may
-- have seen it, and is no longer in flight. Restoring stops at the maximum less what is promised: the server's own
-- bucket may be full until it sees those calls.
CREATE FUNCTION restored_bucket(b admin_buckets, moment timestamptz) RETURNS admin_buckets
LANGUAGE plpgsql IMMUTABLE
AS $$
DECLARE
    lost double precision;
BEGIN
    SELECT COALESCE(sum((c.value ->> 'points')::double precision), 0) INTO lost
    FROM jsonb_each(b.in_flight) c WHERE (c.value ->> 'expires_at')::double precision <= epoch_of(moment);
    IF lost > 0 THEN
        b.spent := b.spent + lost;
        SELECT COALESCE(jsonb_object_agg(c.key, c.value), '{}') INTO b.in_flight
        FROM jsonb_each(b.in_flight) c WHERE (c.value ->> 'expires_at')::double precision > epoch_of(moment);
    END IF;
    SELECT COALESCE(jsonb_object_agg(w.key, w.value), '{}') INTO b.waiting
    FROM jsonb_each(b.waiting) w WHERE (w.value ->> 'until')::double precision > epoch_of(moment);
    b.level := LEAST(
        b.level + b.restore_rate * GREATEST(0, epoch_of(moment) - epoch_of(b.measured_at)),
        b.maximum - promised_points(b.in_flight)
    );
    b.measured_at := GREATEST(b.measured_at, moment);
    RETURN b;
END
$$;

-- Takes points for a call, or says how long to wait: `wait` until it will be its turn, `look_again` until asking again
-- is worth while. What the one is to get who has waited longest is kept for it, so that a dear call is not starved by
-- cheap ones. Calls in the background leave `reserve` of the bucket, and what one in the foreground waits for. `at` is
-- for tests.
CREATE FUNCTION take_admin_points(
    of_shop bigint, caller text, points double precision, reserve double precision, in_background boolean,
    lifetime double precision, break_after integer, at timestamptz DEFAULT NULL
)
RETURNS TABLE (is_granted boolean, is_closed boolean, wait double precision, look_again double precision)
LANGUAGE plpgsql VOLATILE
AS $$
#variable_conflict use_variable
DECLARE
    b      admin_buckets;
    moment timestamptz;
    since  double precision;
    ahead  double precision;
    needed double precision;
BEGIN
    SELECT * INTO b FROM admin_buckets t WHERE t.shop_id = of_shop FOR UPDATE;
    IF NOT FOUND THEN
        INSERT INTO admin_buckets AS t (shop_id, measured_at) VALUES (of_shop, COALESCE(at, clock_timestamp()))
        ON CONFLICT ON CONSTRAINT admin_buckets_pkey DO NOTHING;
        SELECT * INTO b FROM admin_buckets t WHERE t.shop_id = of_shop FOR UPDATE;
    END IF;
    moment := COALESCE(at, clock_timestamp()); -- not before the lock is there
    b := restored_bucket(b, moment);

    is_closed := COALESCE(b.closed_until > moment, false);
    since := COALESCE((b.waiting -> caller ->> 'since')::double precision, epoch_of(moment));
    SELECT COALESCE(sum(w.points), 0) INTO ahead FROM (
        SELECT DISTINCT ON (is_background) (w.value ->> 'points')::double precision AS points,
               (w.value ->> 'is_background')::boolean AS is_background
        FROM jsonb_each(b.waiting) w
        WHERE w.key <> caller AND CASE
            WHEN in_background AND NOT (w.value ->> 'is_background')::boolean THEN true
            WHEN in_background = (w.value ->> 'is_background')::boolean
                THEN ((w.value ->> 'since')::double precision, w.key) < (since, caller)
            ELSE false
        END
        ORDER BY is_background, (w.value ->> 'since')::double precision, w.key
    ) w;
    needed := LEAST(points + CASE WHEN in_background THEN reserve * b.maximum ELSE 0 END, b.maximum) + ahead;

    is_granted := NOT is_closed AND CASE
        WHEN b.is_known THEN b.level >= needed - 0.001
        ELSE b.in_flight = '{}'
    END;
    IF is_granted THEN
        IF b.failures >= break_after THEN
            -- One call finds out whether Shopify is back. Should nobody live to tell, another may ask then.
            b.closed_until := moment + make_interval(secs => lifetime);
        END IF;
        b.level := b.level - points;
        b.in_flight := b.in_flight || jsonb_build_object(caller, jsonb_build_object(
            'points', points, 'taken_at', epoch_of(moment), 'expires_at', epoch_of(moment) + lifetime,
            'spent', b.spent
        ));
        b.waiting := b.waiting - caller;
        wait := 0;
        look_again := 0;
    ELSE
        wait := CASE
            WHEN is_closed THEN epoch_of(b.closed_until) - epoch_of(moment)
            WHEN b.is_known THEN GREATEST(0.02, (needed - b.level) / b.restore_rate)
            ELSE 0.05
        END;
        -- Others may cost less than they were thought to.
        look_again := LEAST(wait, 0.25);
        -- A caller who does not come back soon after that is gone, and holds nobody up. Where nobody is let in, there
        -- is no line.
        b.waiting := CASE WHEN is_closed THEN b.waiting - caller ELSE b.waiting || jsonb_build_object(
            caller, jsonb_build_object(
                'points', points, 'since', since, 'until', epoch_of(moment) + look_again + 0.5,
                'is_background', in_background
            )
        ) END;
    END IF;
    UPDATE admin_buckets t
    SET level = b.level, spent = b.spent, in_flight = b.in_flight, waiting = b.waiting, measured_at = b.measured_at,
        closed_until = b.closed_until
    WHERE t.shop_id = of_shop;
    RETURN NEXT;
END
$$;

-- Books what became of a call. `cost` is what it really cost, NULL where nobody knows: its estimate stays spent then.
-- `available`, `new_maximum` and `new_rate` are what Shopify said of the bucket, or NULL.
--
-- Shopify's word is from some moment in the life of this call. What other calls spent in that time, and what those in
-- flight were promised, it may have seen or not; that much is in doubt. So what is left for new calls lies between
-- `available` less all that is in doubt, and `available`. Books within that are right to the point and stay. Books
-- below are raised to the lower end. Books above are lowered: to the upper end if the time the answer took explains
-- it, else to the lower end, since somebody else draws from the bucket.
--
-- `failed` says whether Shopify did not answer properly (true), did (false), or was not asked (NULL). Nobody calls for
-- `pause` seconds; after `break_after` failures in a row, for `break_for` seconds, doubled with each up to
-- `break_for_most`.
CREATE FUNCTION settle_admin_points(
    of_shop bigint, caller text, cost double precision, available double precision, new_maximum double precision,
    new_rate double precision, failed boolean, pause double precision, break_after integer, break_for double precision,
    break_for_most double precision, at timestamptz DEFAULT NULL
) RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
#variable_conflict use_variable
DECLARE
    b      admin_buckets;
    moment timestamptz;
    call   jsonb;
    doubt  double precision;
    life   double precision;
BEGIN
    SELECT * INTO b FROM admin_buckets t WHERE t.shop_id = of_shop FOR UPDATE;
    moment := COALESCE(at, clock_timestamp());
    b := restored_bucket(b, moment);
    call := b.in_flight -> caller;
    IF call IS NOT NULL THEN -- else it took so long that its points were given up, and its answer tells nothing now
        b.in_flight := b.in_flight - caller;
        cost := COALESCE(cost, (call ->> 'points')::double precision);
        b.level := b.level + (call ->> 'points')::double precision - cost;
        IF available IS NOT NULL THEN
            b.is_known := true;
            b.maximum := COALESCE(new_maximum, b.maximum);
            b.restore_rate := COALESCE(new_rate, b.restore_rate);
            life := epoch_of(moment) - (call ->> 'taken_at')::double precision;
            doubt := promised_points(b.in_flight) + b.spent - (call ->> 'spent')::double precision;
            b.level := CASE
                WHEN b.level < available - doubt THEN available - doubt
                WHEN b.level <= available THEN b.level
                WHEN b.level <= available + b.restore_rate * life THEN available
                ELSE available - doubt
            END;
        END IF;
        b.spent := b.spent + cost;
    END IF;
    IF failed THEN
        b.failures := b.failures + 1;
    ELSIF NOT failed THEN
        b.failures := 0;
        b.closed_until := NULL;
    END IF;
    IF b.failures >= break_after THEN
        b.closed_until := moment + make_interval(secs => CASE
            WHEN failed IS NULL THEN 0 -- another may ask in its place
            ELSE LEAST(break_for * 2 ^ LEAST(b.failures - break_after, 30), break_for_most)
        END);
    END IF;
    IF pause > 0 THEN
        b.closed_until := GREATEST(b.closed_until, moment + make_interval(secs => pause));
    END IF;
    UPDATE admin_buckets t
    SET level = b.level, maximum = b.maximum, restore_rate = b.restore_rate, is_known = b.is_known, spent = b.spent,
        in_flight = b.in_flight, waiting = b.waiting, measured_at = b.measured_at, failures = b.failures,
        closed_until = b.closed_until
    WHERE t.shop_id = of_shop;
END
$$;

-- Forgets a caller who does not wait any longer.
CREATE FUNCTION leave_admin_line(of_shop bigint, caller text) RETURNS void
LANGUAGE sql VOLATILE
AS $$ UPDATE admin_buckets SET waiting = waiting - caller WHERE shop_id = of_shop AND waiting ? caller $$;

REVOKE ALL ON FUNCTION epoch_of, promised_points, restored_bucket, take_admin_points, settle_admin_points,
    leave_admin_line FROM PUBLIC;
GRANT EXECUTE ON FUNCTION epoch_of, promised_points, restored_bucket, take_admin_points, settle_admin_points,
    leave_admin_line TO sellflow_web, sellflow_worker;

-- Stored calls -----------------------------------------------------------------------------------------------
-- Mutations, stored with their key before they are sent (docs/decisions/0016).
CREATE TABLE admin_calls (
    call_id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    shop_id       bigint NOT NULL REFERENCES shops,
    -- What it is for, in the words of who wants it ("redemption:55:code"): a purpose has one call.
    purpose       text NOT NULL CHECK (length(purpose) BETWEEN 1 AND 200),
    -- Whom it is about ("customer:42"), so that it can be found when they want to be forgotten.
    subject       text,
    document      text NOT NULL,
    -- The text that is sent. One of a later release would be another call to Shopify.
    query         text NOT NULL,
    -- Sealed, as they may name people or hold a gift card's code; erased when it will not be sent again.
    variables     bytea,
    -- Shopify knows a call by it for a day from when it was first sent.
    key           uuid NOT NULL,
    keys_used     integer NOT NULL DEFAULT 1,
    is_idempotent boolean NOT NULL,
    -- stored: never sent with this key, for sure; sent: somebody waits for its answer; ambiguous: it may have had its
    -- effect; succeeded, failed: Shopify said so; unknown: nobody can find out by sending it again.
    state         text NOT NULL DEFAULT 'stored'
        CHECK (state IN ('stored', 'sent', 'ambiguous', 'succeeded', 'failed', 'unknown')),
    -- Times it was sent, with any key: tells one sender from the next.
    attempts      integer NOT NULL DEFAULT 0,
    first_sent_at timestamptz,
    -- Whether an earlier attempt with this key may have had its effect.
    is_doubtful   boolean NOT NULL DEFAULT false,
    -- Until when a sender may take; after that it is taken to be dead.
    held_until    timestamptz,
    -- What Shopify said in the end, sealed.
    answer        bytea,
    error_code    text,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at   timestamptz,
    UNIQUE (shop_id, purpose),
    CHECK ((state IN ('succeeded', 'failed', 'unknown')) = (finished_at IS NOT NULL))
);
CREATE INDEX admin_calls_open ON admin_calls (created_at) WHERE finished_at IS NULL;
CREATE INDEX admin_calls_finished ON admin_calls (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX admin_calls_subject ON admin_calls (shop_id, subject) WHERE subject IS NOT NULL;
CALL protect_tenant_table('admin_calls');
GRANT SELECT, INSERT (shop_id, purpose, subject, document, query, variables, key, is_idempotent),
    UPDATE (query, variables, key, keys_used, state, attempts, first_sent_at, is_doubtful, held_until, answer, error_code,
            finished_at)
    ON admin_calls TO sellflow_web, sellflow_worker;
