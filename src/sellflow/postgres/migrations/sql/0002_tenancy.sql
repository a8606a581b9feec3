-- Logins -------------------------------------------------------------------------------------------------
-- Roles belong to the whole server, so another database of it may have made them already. Where the owner may
-- not create roles, its administrator makes these three and this block finds them.
DO $$
DECLARE
    login text;
BEGIN
    FOREACH login IN ARRAY ARRAY['sellflow_web', 'sellflow_worker', 'sellflow_ingest'] LOOP
        IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = login) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS', login);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL; -- made by another database's migration in this very moment
            END;
        END IF;
    END LOOP;
END
$$;

REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public, pgmq TO sellflow_web, sellflow_worker, sellflow_ingest;
-- Every role checks at its start that the schema is the one it was written for.
GRANT SELECT ON schema_version TO sellflow_web, sellflow_worker, sellflow_ingest;

-- Row-level security ---------------------------------------------------------------------------------------
-- The shop a mobile or admin request acts for; nothing is visible while it is not set.
CREATE FUNCTION current_shop() RETURNS bigint
LANGUAGE sql STABLE PARALLEL SAFE
AS $$ SELECT NULLIF(current_setting('sellflow.shop_id', true), '')::bigint $$;

-- The shops of a worker's batch; nothing is visible while they are not set.
CREATE FUNCTION current_shops() RETURNS bigint[]
LANGUAGE sql STABLE PARALLEL SAFE
AS $$ SELECT NULLIF(current_setting('sellflow.shop_ids', true), '')::bigint[] $$;

-- Forces row-level security on a tenant table, which must have a column shop_id. The owner gets a policy of its
-- own, since forcing takes away the blanket exemption that a forgotten setting could otherwise hide behind.
CREATE PROCEDURE protect_tenant_table(tenant_table regclass)
LANGUAGE plpgsql
AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', tenant_table);
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', tenant_table);
    EXECUTE format('CREATE POLICY owner_all ON %s TO CURRENT_USER USING (true) WITH CHECK (true)', tenant_table);
    EXECUTE format(
        'CREATE POLICY web_one_shop ON %s TO sellflow_web '
        'USING (shop_id = (SELECT current_shop())) WITH CHECK (shop_id = (SELECT current_shop()))',
        tenant_table
    );
    EXECUTE format(
        'CREATE POLICY worker_batch ON %s TO sellflow_worker '
        'USING (shop_id = ANY ((SELECT current_shops())::bigint[])) '
        'WITH CHECK (shop_id = ANY ((SELECT current_shops())::bigint[]))',
        tenant_table
    );
END
$$;
REVOKE ALL ON PROCEDURE protect_tenant_table FROM PUBLIC;

-- Apps and shops -------------------------------------------------------------------------------------------
-- One Shopify app. A custom app belongs to one store or organisation, so an agency has many.
CREATE TABLE apps (
    app_id          integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    handle          text NOT NULL UNIQUE CHECK (handle ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
    client_id       text NOT NULL UNIQUE CHECK (client_id <> ''),
    client_secret   text NOT NULL CHECK (client_secret <> ''),
    -- Accepted beside the current one from a rotation until it is forgotten.
    previous_secret text CHECK (previous_secret <> ''),
    created_at      timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN apps.handle IS 'The last part of the path its webhooks are sent to: /webhooks/shopify/{handle}';
GRANT SELECT ON apps TO sellflow_web;

CREATE TABLE shops (
    shop_id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    app_id         integer NOT NULL REFERENCES apps,
    domain         text NOT NULL CHECK (domain ~ '^[a-z0-9][a-z0-9-]*\.myshopify\.com$'),
    currency       text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    installed_at   timestamptz NOT NULL DEFAULT now(),
    uninstalled_at timestamptz,
    UNIQUE (app_id, domain)
);
CALL protect_tenant_table('shops');
GRANT SELECT ON shops TO sellflow_web;
GRANT SELECT, UPDATE (uninstalled_at) ON shops TO sellflow_worker;

-- The ids of known shops, for whoever knows app and domain: all that the ingest login may learn of them.
CREATE FUNCTION find_shops(of_app integer, domains text[]) RETURNS TABLE (domain text, shop_id bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
AS $$ SELECT s.domain, s.shop_id FROM shops s WHERE s.app_id = of_app AND s.domain = ANY (domains) $$;
REVOKE ALL ON FUNCTION find_shops FROM PUBLIC;
GRANT EXECUTE ON FUNCTION find_shops TO sellflow_ingest, sellflow_web;
