-- The login of the admin routes ------------------------------------------------------------------------------
-- Merchants and services work with dead letters and endpoints through a login of their own: what customers' requests
-- go through (sellflow_web) gets none of these rights.
DO $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'sellflow_admin') THEN
        BEGIN
            CREATE ROLE sellflow_admin LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL; -- made by another database's migration in this very moment
        END;
    END IF;
END
$$;
GRANT USAGE ON SCHEMA public, pgmq TO sellflow_admin;
GRANT SELECT ON schema_version TO sellflow_admin;

-- Whether a transaction of the admin login acts for a service of the whole installation, which sees every shop. It is
-- set for those alone; a transaction that sets neither this nor a shop sees nothing.
CREATE FUNCTION sees_installation() RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
AS $$ SELECT COALESCE(current_setting('sellflow.installation', true), '') = 'on' $$;

-- The usual policy for the admin login, for tables whose every row may be seen by whoever acts for its shop.
CREATE PROCEDURE open_to_admin(tenant_table regclass)
LANGUAGE plpgsql
AS $$
BEGIN
    EXECUTE format(
        'CREATE POLICY admin_shop ON %s TO sellflow_admin '
        'USING (shop_id = (SELECT current_shop()) OR (SELECT sees_installation())) '
        'WITH CHECK (shop_id = (SELECT current_shop()) OR (SELECT sees_installation()))',
        tenant_table
    );
END
$$;
REVOKE ALL ON PROCEDURE open_to_admin FROM PUBLIC;

CALL open_to_admin('shops');
GRANT SELECT ON shops TO sellflow_admin;

-- What seals a shop's secrets, as for the web login.
CALL open_to_admin('data_keys');
CREATE POLICY admin_installations_own ON data_keys FOR SELECT TO sellflow_admin USING (shop_id IS NULL);
GRANT SELECT ON master_keys, data_keys TO sellflow_admin;
GRANT INSERT (data_key_id, shop_id, provider, master_key_id, wrapped) ON data_keys TO sellflow_admin;

-- Endpoints and their deliveries, as admins see them -----------------------------------------------------------
CALL open_to_admin('endpoints');
GRANT SELECT, INSERT (shop_id, kind, address, topics, description),
      UPDATE (state, paused_at, pause_reason, failures, failing_since) ON endpoints TO sellflow_admin;

-- Secrets are made and ended here, never read: only the worker signs.
CALL open_to_admin('endpoint_secrets');
GRANT SELECT (secret_id, endpoint_id, shop_id, valid_until), INSERT (endpoint_id, shop_id, secret),
      UPDATE (valid_until), DELETE ON endpoint_secrets TO sellflow_admin;

-- A delivery to an endpoint of a service is about an event of the shop, but none of its business.
CREATE POLICY admin_own_endpoints ON endpoint_deliveries TO sellflow_admin
    USING ((SELECT sees_installation()) OR (
        shop_id = (SELECT current_shop())
        AND EXISTS (SELECT FROM endpoints e WHERE e.endpoint_id = endpoint_deliveries.endpoint_id)
    ));
GRANT SELECT, UPDATE (state, round, last_error) ON endpoint_deliveries TO sellflow_admin;
CREATE POLICY admin_own_endpoints ON endpoint_attempts TO sellflow_admin
    USING ((SELECT sees_installation()) OR (
        shop_id = (SELECT current_shop())
        AND EXISTS (SELECT FROM endpoint_deliveries d WHERE d.delivery_id = endpoint_attempts.delivery_id)
    ));
GRANT SELECT ON endpoint_attempts TO sellflow_admin;

-- Has topics queued for endpoints: whole topics, and never those of the deliveries themselves.
CREATE FUNCTION bind_endpoint_topics(topics text[]) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
    SELECT count(pgmq.bind_topic(t.topic, 'outgoing'))
    FROM unnest(topics) AS t (topic) WHERE t.topic ~ '^[a-zA-Z0-9_.-]+$' AND t.topic NOT LIKE 'outgoing.%'
$$;
REVOKE ALL ON FUNCTION bind_endpoint_topics FROM PUBLIC;
GRANT EXECUTE ON FUNCTION bind_endpoint_topics TO sellflow_admin;

-- Dead letters, as admins see them -----------------------------------------------------------------------------
-- The delivery that a message of the queue outgoing_deliveries is about, by its key.
CREATE FUNCTION delivery_of(key text) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT CASE WHEN key ~ '^delivery:[0-9]{1,18}$' THEN substr(key, 10)::bigint END $$;

-- Whoever acts for a shop sees what failed of its events, but nothing of the installation's own services: neither
-- deliveries to them nor what went wrong in finding out whom to tell.
CREATE POLICY admin_shop ON dead_letters TO sellflow_admin
    USING ((SELECT sees_installation()) OR (
        shop_id = (SELECT current_shop()) AND queue <> 'outgoing' AND (
            queue <> 'outgoing_deliveries'
            OR EXISTS (SELECT FROM endpoint_deliveries d WHERE d.delivery_id = delivery_of(key))
        )
    ));
GRANT SELECT, UPDATE (state, replays, resolved_at, resolved_by, reason) ON dead_letters TO sellflow_admin;
CREATE POLICY admin_shop ON failed_attempts TO sellflow_admin
    USING ((SELECT sees_installation()) OR (
        shop_id = (SELECT current_shop()) AND EXISTS (
            SELECT FROM dead_letters d
            WHERE d.shop_id = failed_attempts.shop_id AND d.queue = failed_attempts.queue
              AND d.day = failed_attempts.day AND d.event_id = failed_attempts.event_id
        )
    ));
GRANT SELECT ON failed_attempts TO sellflow_admin;
-- The letters of one shop, newest first.
CREATE INDEX dead_letters_shop ON dead_letters (shop_id, dead_letter_id);

-- A replay takes the outcome back; what an outcome says is not for admins, since it may be about a service.
CALL open_to_admin('outcomes');
GRANT SELECT (day, event_id, queue, shop_id), DELETE ON outcomes TO sellflow_admin;
-- A dead letter shows its event; a test and a replayed delivery are events themselves.
CALL open_to_admin('events');
GRANT SELECT, INSERT ON events TO sellflow_admin;
GRANT USAGE ON SEQUENCE event_ids TO sellflow_admin;
-- What waits behind a dead letter: counted, and let go.
GRANT SELECT, DELETE ON parked_messages TO sellflow_admin;
GRANT SELECT ON pauses TO sellflow_admin;
GRANT SELECT ON pgmq.meta, pgmq.topic_bindings TO sellflow_admin;
GRANT EXECUTE ON FUNCTION queue_figures TO sellflow_admin;

-- Messages that come back, and those of events that admins emit. Part of preparing a queue; safe to run again.
CREATE PROCEDURE open_queue_to_admin(queue text)
LANGUAGE plpgsql
AS $$
BEGIN
    EXECUTE format('GRANT INSERT, SELECT (msg_id) ON pgmq.%I TO sellflow_admin', 'q_' || queue);
END
$$;
REVOKE ALL ON PROCEDURE open_queue_to_admin FROM PUBLIC;

-- Service keys -------------------------------------------------------------------------------------------------
-- Keys of other programs. The secret is 32 random bytes, so its SHA-256 tells nothing of it.
CREATE TABLE service_keys (
    key_id       text PRIMARY KEY CHECK (key_id ~ '^[a-z0-9]{12}$'),
    -- NULL for the whole installation.
    shop_id      bigint REFERENCES shops,
    name         text NOT NULL CHECK (name <> ''),
    scopes       text[] NOT NULL CHECK (cardinality(scopes) > 0),
    secret_hash  bytea NOT NULL CHECK (octet_length(secret_hash) = 32),
    -- The key that this one took the place of.
    replaces     text REFERENCES service_keys ON DELETE SET NULL,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at   timestamptz,
    revoked_at   timestamptz,
    -- To the minute.
    last_used_at timestamptz
);
CREATE INDEX service_keys_shop ON service_keys (shop_id);
CALL protect_tenant_table('service_keys');

-- A key by its public part, for whoever was shown it: the caller compares the hash. The login sees no other key.
CREATE FUNCTION find_service_key(wanted text)
RETURNS TABLE (key_id text, shop_id bigint, name text, scopes text[], secret_hash bytea, is_alive boolean,
               use_is_noted boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
AS $$
    SELECT k.key_id, k.shop_id, k.name, k.scopes, k.secret_hash,
           k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > clock_timestamp()),
           k.last_used_at IS NOT NULL AND k.last_used_at > clock_timestamp() - interval '1 minute'
    FROM service_keys k WHERE k.key_id = wanted
$$;
CREATE FUNCTION note_service_key_use(used text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
    UPDATE service_keys k SET last_used_at = clock_timestamp()
    WHERE k.key_id = used
      AND (k.last_used_at IS NULL OR k.last_used_at <= clock_timestamp() - interval '1 minute')
$$;
REVOKE ALL ON FUNCTION find_service_key, note_service_key_use FROM PUBLIC;
GRANT EXECUTE ON FUNCTION find_service_key, note_service_key_use TO sellflow_admin;

-- Shops by their domain, for whoever exchanges a customer's token: which app's it is has to be said where there are
-- several.
CREATE FUNCTION find_installed_shops(wanted text) RETURNS TABLE (shop_id bigint, app_id integer, handle text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
AS $$
    SELECT s.shop_id, s.app_id, a.handle FROM shops s JOIN apps a USING (app_id)
    WHERE s.domain = wanted AND s.uninstalled_at IS NULL ORDER BY a.handle
$$;
CREATE INDEX shops_domain ON shops (domain);
REVOKE ALL ON FUNCTION find_installed_shops FROM PUBLIC;
GRANT EXECUTE ON FUNCTION find_installed_shops TO sellflow_web, sellflow_admin;

-- Customers' sessions ------------------------------------------------------------------------------------------
-- One login on one device, renewed by refresh tokens of which each is used once.
CREATE TABLE customer_sessions (
    session_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    shop_id     bigint NOT NULL REFERENCES shops,
    customer_id bigint NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at    timestamptz,
    -- logout, or reuse: somebody showed a refresh token that had been used.
    end_reason  text CHECK (end_reason IN ('logout', 'reuse')),
    CHECK ((ended_at IS NULL) = (end_reason IS NULL))
);
CREATE INDEX customer_sessions_customer ON customer_sessions (shop_id, customer_id);
CALL protect_tenant_table('customer_sessions');
GRANT SELECT, INSERT (shop_id, customer_id), UPDATE (ended_at, end_reason) ON customer_sessions TO sellflow_web;

-- Used ones stay until they would have expired: showing one again betrays a copy.
CREATE TABLE refresh_tokens (
    shop_id    bigint NOT NULL,
    token_hash bytea NOT NULL CHECK (octet_length(token_hash) = 32),
    session_id bigint NOT NULL REFERENCES customer_sessions ON DELETE CASCADE,
    -- The token that this one was given for.
    replaces   bytea,
    issued_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL,
    used_at    timestamptz,
    PRIMARY KEY (shop_id, token_hash)
);
CREATE INDEX refresh_tokens_session ON refresh_tokens (session_id);
CREATE INDEX refresh_tokens_expired ON refresh_tokens (expires_at);
CALL protect_tenant_table('refresh_tokens');
GRANT SELECT, INSERT (shop_id, token_hash, session_id, replaces, expires_at), UPDATE (used_at)
    ON refresh_tokens TO sellflow_web;

-- Customers' tokens are signed where they are asked for.
GRANT SELECT (private_key) ON signing_keys TO sellflow_web;

-- Idempotency keys ---------------------------------------------------------------------------------------------
-- What a POST answered, committed together with what it did. The key itself is not stored: its hash finds the row.
CREATE TABLE idempotency_keys (
    -- NULL for services of the whole installation.
    shop_id     bigint,
    caller      text NOT NULL,
    route       text NOT NULL,
    key_hash    bytea NOT NULL CHECK (octet_length(key_hash) = 32),
    -- SHA-256 of path, query and body.
    fingerprint bytea NOT NULL CHECK (octet_length(fingerprint) = 32),
    status      smallint NOT NULL,
    -- Sealed: an answer may hold a secret that is shown once.
    answer      bytea NOT NULL,
    -- The customer whom the answer is about, so that it goes when they are erased.
    customer_id bigint,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE NULLS NOT DISTINCT (shop_id, caller, route, key_hash)
);
CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);
CREATE INDEX idempotency_keys_customer ON idempotency_keys (shop_id, customer_id) WHERE customer_id IS NOT NULL;
CALL protect_tenant_table('idempotency_keys');
-- Services of the whole installation find their own rows alone, not those of shops.
CREATE POLICY admin_caller ON idempotency_keys TO sellflow_admin
    USING (shop_id = (SELECT current_shop()) OR (shop_id IS NULL AND (SELECT sees_installation())))
    WITH CHECK (shop_id = (SELECT current_shop()) OR (shop_id IS NULL AND (SELECT sees_installation())));
GRANT SELECT, INSERT, UPDATE (fingerprint, status, answer, customer_id, created_at) ON idempotency_keys
    TO sellflow_web, sellflow_admin;

-- Shop settings ------------------------------------------------------------------------------------------------
-- What differs from the defaults, which are in code. A shop without a row has version 0.
CREATE TABLE shop_settings (
    shop_id    bigint PRIMARY KEY REFERENCES shops,
    version    integer NOT NULL CHECK (version > 0),
    settings   jsonb NOT NULL CHECK (jsonb_typeof(settings) = 'object'),
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_by text NOT NULL CHECK (changed_by <> '')
);
CALL protect_tenant_table('shop_settings');
CALL open_to_admin('shop_settings');
GRANT SELECT ON shop_settings TO sellflow_web, sellflow_worker;
GRANT SELECT, INSERT, UPDATE (version, settings, changed_at, changed_by) ON shop_settings TO sellflow_admin;

-- Who changed what: of each setting the value before and after.
CREATE TABLE shop_settings_changes (
    shop_id    bigint NOT NULL REFERENCES shops,
    version    integer NOT NULL,
    changes    jsonb NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_by text NOT NULL,
    PRIMARY KEY (shop_id, version)
);
CALL protect_tenant_table('shop_settings_changes');
CALL open_to_admin('shop_settings_changes');
GRANT SELECT, INSERT ON shop_settings_changes TO sellflow_admin;
