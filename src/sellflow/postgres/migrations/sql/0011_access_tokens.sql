-- Apps: where their Shopify is, and what they ask of it ----------------------------------------------------
ALTER TABLE apps
    ADD COLUMN shopify_url text CHECK (shopify_url ~ '^https?://[^\s?#]*\{shop\}[^\s?#]*$' AND shopify_url !~ '/$'),
    ADD COLUMN scopes text[] CHECK (array_position(scopes, NULL) IS NULL);
COMMENT ON COLUMN apps.shopify_url IS 'Where a shop of it is found, with {shop} for the domain. NULL: https://{shop}';
COMMENT ON COLUMN apps.scopes IS 'The access scopes that it asks merchants for. NULL: those of the settings';

-- The app of a shop that the caller works for, with its credentials: a worker may know that one alone.
CREATE FUNCTION app_of_shop(of_shop bigint)
RETURNS TABLE (app_id integer, handle text, client_id text, client_secret bytea, shopify_url text, scopes text[])
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
AS $$
    SELECT a.app_id, a.handle, a.client_id, a.client_secret, a.shopify_url, a.scopes
    FROM shops s JOIN apps a USING (app_id)
    WHERE s.shop_id = of_shop AND CASE session_user
        WHEN 'sellflow_web' THEN s.shop_id = current_shop()
        WHEN 'sellflow_worker' THEN s.shop_id = ANY (current_shops())
        ELSE true
    END
$$;
REVOKE ALL ON FUNCTION app_of_shop FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app_of_shop TO sellflow_web, sellflow_worker;

-- Tokens ----------------------------------------------------------------------------------------------------
-- What a shop's app calls the Admin API with. Access and refresh token come and go as a pair, in one statement.
-- The tokens are sealed (docs/decisions/0014).
CREATE TABLE access_tokens (
    shop_id                bigint PRIMARY KEY REFERENCES shops,
    kind                   text NOT NULL CHECK (kind IN ('expiring', 'permanent', 'client_credentials')),
    access_token           bytea NOT NULL,
    expires_at             timestamptz,
    refresh_token          bytea,
    refresh_expires_at     timestamptz,
    -- Shopify takes it until its replacement has been used: what remains when that one is refused.
    previous_refresh_token bytea,
    scopes                 text[] NOT NULL,
    -- When Shopify last told of a change of scopes; an older notice that comes later changes nothing.
    scopes_told_at         timestamptz,
    -- The merchant's grant: a notice of removal from before it is about an earlier one.
    granted_at             timestamptz NOT NULL DEFAULT clock_timestamp(),
    obtained_at            timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Refreshing that failed for no fault of the tokens is not tried again before this.
    retry_at               timestamptz,
    failures               integer NOT NULL DEFAULT 0,
    last_error             text,
    -- Set when Shopify refuses what we have: only the merchant can give us another.
    broken_at              timestamptz,
    announced_at           timestamptz,
    CHECK ((kind = 'expiring') = (refresh_token IS NOT NULL)),
    CHECK ((kind = 'permanent') = (expires_at IS NULL))
);
CALL protect_tenant_table('access_tokens');
CREATE INDEX access_tokens_by_expiry ON access_tokens (expires_at) WHERE broken_at IS NULL;
CREATE INDEX access_tokens_to_announce ON access_tokens (shop_id)
    WHERE announced_at IS NULL OR announced_at < granted_at OR announced_at < broken_at;
GRANT SELECT, INSERT ON access_tokens TO sellflow_web;
GRANT SELECT, DELETE ON access_tokens TO sellflow_worker;
GRANT UPDATE (kind, access_token, expires_at, refresh_token, refresh_expires_at, previous_refresh_token, scopes,
              scopes_told_at, granted_at, obtained_at, retry_at, failures, last_error, broken_at)
    ON access_tokens TO sellflow_web, sellflow_worker;

-- Who may ask Shopify for tokens of an app and shop just now. Every answer ends the token before it, so two at a
-- time would leave us with a dead one. The logins reach it through the functions below alone.
CREATE SEQUENCE token_lease_numbers;
CREATE TABLE token_leases (
    app_id     integer NOT NULL REFERENCES apps,
    domain     text NOT NULL,
    -- Never given twice: whoever held an earlier one may not store what it brought.
    number     bigint NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (app_id, domain)
);

CREATE FUNCTION take_token_lease(of_app integer, of_domain text, seconds double precision) RETURNS bigint
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp
AS $$
    INSERT INTO token_leases AS l (app_id, domain, number, expires_at)
    VALUES (of_app, of_domain, nextval('token_lease_numbers'), clock_timestamp() + make_interval(secs => seconds))
    ON CONFLICT (app_id, domain) DO UPDATE SET number = EXCLUDED.number, expires_at = EXCLUDED.expires_at
    WHERE l.expires_at <= clock_timestamp()
    RETURNING number
$$;

-- True until the transaction ends: the lock keeps others from taking it meanwhile.
CREATE FUNCTION hold_token_lease(of_app integer, of_domain text, held bigint) RETURNS boolean
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp
AS $$
    SELECT EXISTS (
        SELECT FROM token_leases WHERE app_id = of_app AND domain = of_domain AND number = held FOR UPDATE
    )
$$;

CREATE FUNCTION release_token_lease(of_app integer, of_domain text, held bigint) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp
AS $$ DELETE FROM token_leases WHERE app_id = of_app AND domain = of_domain AND number = held $$;

REVOKE ALL ON FUNCTION take_token_lease, hold_token_lease, release_token_lease FROM PUBLIC;
GRANT EXECUTE ON FUNCTION take_token_lease, hold_token_lease, release_token_lease TO sellflow_web, sellflow_worker;

-- Installation ----------------------------------------------------------------------------------------------
-- What is known of an app in a shop, for whoever knows both: web, before it has a shop to act for. No secrets.
CREATE FUNCTION find_installation(of_app integer, of_domain text)
RETURNS TABLE (
    shop_id bigint, currency text, is_uninstalled boolean, kind text, scopes text[], is_broken boolean,
    granted_ago double precision
)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
AS $$
    SELECT s.shop_id, s.currency, s.uninstalled_at IS NOT NULL, t.kind, t.scopes, t.broken_at IS NOT NULL,
           EXTRACT(epoch FROM clock_timestamp() - t.granted_at)::double precision
    FROM shops s LEFT JOIN access_tokens t USING (shop_id)
    WHERE s.app_id = of_app AND s.domain = of_domain
$$;

-- Adds a shop that Shopify gave us a token for, or marks a known one as installed again.
CREATE FUNCTION install_shop(of_app integer, new_domain text, new_currency text) RETURNS bigint
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp
AS $$
    INSERT INTO shops (app_id, domain, currency) VALUES (of_app, new_domain, new_currency)
    ON CONFLICT (app_id, domain) DO UPDATE SET uninstalled_at = NULL, currency = EXCLUDED.currency
    RETURNING shop_id
$$;

-- A browser that went to Shopify to authorize an app, until it comes back: digests of what it brings then.
CREATE TABLE authorizations (
    state_digest  bytea PRIMARY KEY CHECK (octet_length(state_digest) = 32),
    cookie_digest bytea NOT NULL CHECK (octet_length(cookie_digest) = 32),
    app_id        integer NOT NULL REFERENCES apps,
    domain        text NOT NULL,
    expires_at    timestamptz NOT NULL
);
CREATE INDEX authorizations_by_expiry ON authorizations (expires_at);

-- Begins one; those that nobody came back for are forgotten on the way.
CREATE FUNCTION begin_authorization(
    new_state bytea, new_cookie bytea, of_app integer, of_domain text, seconds double precision
) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp
AS $$
    DELETE FROM authorizations WHERE expires_at <= clock_timestamp();
    INSERT INTO authorizations (state_digest, cookie_digest, app_id, domain, expires_at)
    VALUES (new_state, new_cookie, of_app, of_domain, clock_timestamp() + make_interval(secs => seconds))
$$;

-- Ends one, whatever comes of it: no state is good twice.
CREATE FUNCTION end_authorization(of_state bytea, of_cookie bytea, of_app integer, of_domain text) RETURNS boolean
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp
AS $$
    WITH ended AS (
        DELETE FROM authorizations WHERE state_digest = of_state
        RETURNING cookie_digest, app_id, domain, expires_at
    )
    SELECT EXISTS (
        SELECT FROM ended WHERE cookie_digest = of_cookie AND app_id = of_app AND domain = of_domain
          AND expires_at > clock_timestamp()
    )
$$;

REVOKE ALL ON FUNCTION find_installation, install_shop, begin_authorization, end_authorization FROM PUBLIC;
GRANT EXECUTE ON FUNCTION find_installation, install_shop, begin_authorization, end_authorization TO sellflow_web;
