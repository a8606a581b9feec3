-- Endpoints --------------------------------------------------------------------------------------------------
-- Who is told of events: a merchant's endpoint of those of its shop, a service's (shop_id NULL) of every shop's.
CREATE TABLE endpoints (
    endpoint_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    shop_id       bigint REFERENCES shops,
    kind          text NOT NULL CHECK (kind IN ('webhook', 'sns')),
    -- An https address, or the ARN of an SNS topic.
    address       text NOT NULL CHECK (address <> ''),
    -- Patterns as pgmq's: * is one word, # any number.
    topics        text[] NOT NULL CHECK (cardinality(topics) > 0),
    description   text NOT NULL DEFAULT '',
    state         text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'paused', 'removed')),
    paused_at     timestamptz,
    pause_reason  text,
    -- Failures since the last success, and the time of the first of them.
    failures      integer NOT NULL DEFAULT 0,
    failing_since timestamptz,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((state = 'paused') = (paused_at IS NOT NULL)),
    -- SNS is published to with the installation's own credentials, which are no merchant's.
    CHECK (kind = 'webhook' OR shop_id IS NULL)
);
CREATE UNIQUE INDEX endpoints_address ON endpoints (shop_id, address) NULLS NOT DISTINCT WHERE state <> 'removed';
CALL protect_tenant_table('endpoints');

-- What signs deliveries. Several are valid at a time while a rotation lasts.
CREATE TABLE endpoint_secrets (
    secret_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    endpoint_id bigint NOT NULL REFERENCES endpoints ON DELETE CASCADE,
    shop_id     bigint,
    secret      text NOT NULL CHECK (secret ~ '^whsec_'),
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- NULL for the current one.
    valid_until timestamptz
);
CREATE INDEX endpoint_secrets_endpoint ON endpoint_secrets (endpoint_id);
CREATE UNIQUE INDEX endpoint_secrets_current ON endpoint_secrets (endpoint_id) WHERE valid_until IS NULL;
CALL protect_tenant_table('endpoint_secrets');

-- A worker with a batch in hand sees the endpoints of services beside those of its shops.
CREATE POLICY worker_services ON endpoints TO sellflow_worker
    USING (shop_id IS NULL AND (SELECT current_shops()) IS NOT NULL)
    WITH CHECK (shop_id IS NULL AND (SELECT current_shops()) IS NOT NULL);
CREATE POLICY worker_services ON endpoint_secrets FOR SELECT TO sellflow_worker
    USING (shop_id IS NULL AND (SELECT current_shops()) IS NOT NULL);
-- Only the owner adds endpoints, changes what they hear, and makes secrets; only the worker signs with them.
GRANT SELECT, UPDATE (state, paused_at, pause_reason, failures, failing_since) ON endpoints TO sellflow_worker;
GRANT SELECT (endpoint_id, shop_id, secret_id, secret, valid_until) ON endpoint_secrets TO sellflow_worker;

-- Deliveries -------------------------------------------------------------------------------------------------
-- One event for one endpoint, the same row through every attempt and replay. `shop_id` is the event's.
CREATE TABLE endpoint_deliveries (
    delivery_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    shop_id       bigint NOT NULL,
    endpoint_id   bigint NOT NULL REFERENCES endpoints ON DELETE CASCADE,
    day           date NOT NULL,
    event_id      bigint NOT NULL,
    topic         text NOT NULL,
    -- pending: on its way; held: until its endpoint is resumed; failed: given up after the last attempt.
    state         text NOT NULL CHECK (state IN ('pending', 'delivered', 'held', 'failed')),
    attempts      integer NOT NULL DEFAULT 0,
    -- Attempts since it was last put into the queue: a replay and a resumption begin anew.
    round         integer NOT NULL DEFAULT 0,
    last_status   integer,
    last_error    text,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    delivered_at  timestamptz,
    UNIQUE (endpoint_id, day, event_id)
);
-- The log of an endpoint, newest first.
CREATE INDEX endpoint_deliveries_log ON endpoint_deliveries (endpoint_id, delivery_id);
-- What a resumption sends, and what a replay of failures does.
CREATE INDEX endpoint_deliveries_unsent ON endpoint_deliveries (endpoint_id, state) WHERE state IN ('held', 'failed');
CREATE INDEX endpoint_deliveries_day ON endpoint_deliveries (day);
CALL protect_tenant_table('endpoint_deliveries');
GRANT SELECT, INSERT, UPDATE (state, attempts, round, last_status, last_error, delivered_at)
    ON endpoint_deliveries TO sellflow_worker;

-- One row for each attempt that reached its end.
CREATE TABLE endpoint_attempts (
    attempt_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    delivery_id   bigint NOT NULL REFERENCES endpoint_deliveries ON DELETE CASCADE,
    shop_id       bigint NOT NULL,
    attempted_at  timestamptz NOT NULL,
    duration_ms   integer NOT NULL,
    -- The HTTP status, or NULL where no answer came.
    status        integer,
    error_code    text,
    error_message text,
    -- The beginning of the answer.
    excerpt       text NOT NULL DEFAULT ''
);
CREATE INDEX endpoint_attempts_delivery ON endpoint_attempts (delivery_id, attempt_id);
CALL protect_tenant_table('endpoint_attempts');
GRANT SELECT, INSERT ON endpoint_attempts TO sellflow_worker;
