-- Customers -------------------------------------------------------------------------------------------------
-- What is known of a shop's customers: from webhooks, from reconciliation and from the first import, all the same.
CREATE TABLE customers (
    shop_id           bigint NOT NULL REFERENCES shops,
    customer_id       bigint NOT NULL,
    email             text,
    phone             text,
    first_name        text,
    last_name         text,
    locale            text,
    state             text NOT NULL DEFAULT '',
    tags              text NOT NULL DEFAULT '',
    accepts_marketing boolean NOT NULL DEFAULT false,
    created_at        timestamptz,
    -- Shopify's updated_at: a snapshot older than this one changes nothing.
    revised_at        timestamptz NOT NULL,
    PRIMARY KEY (shop_id, customer_id)
);
CALL protect_tenant_table('customers');
GRANT SELECT, INSERT, UPDATE, DELETE ON customers TO sellflow_worker;

-- Reconciliation ----------------------------------------------------------------------------------------------
-- Up to when a shop's resources are known to be complete, and how looking went. Moments are Shopify's updated_at.
CREATE TABLE reconciliations (
    shop_id         bigint PRIMARY KEY REFERENCES shops,
    orders_until    timestamptz NOT NULL,
    customers_until timestamptz NOT NULL,
    next_run_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at      timestamptz,
    finished_at     timestamptz,
    -- What the last run did, in a sentence; or why it failed.
    detail          text NOT NULL DEFAULT '',
    error           text NOT NULL DEFAULT '',
    failures_in_row integer NOT NULL DEFAULT 0,
    runs            bigint NOT NULL DEFAULT 0,
    -- Resources that were looked at, and events that no webhook had brought.
    examined        bigint NOT NULL DEFAULT 0,
    repaired        bigint NOT NULL DEFAULT 0
);
CALL protect_tenant_table('reconciliations');
CREATE INDEX reconciliations_due ON reconciliations (next_run_at);
GRANT SELECT, UPDATE ON reconciliations TO sellflow_worker;

-- Imports -----------------------------------------------------------------------------------------------------
-- The first import of a shop's customers, and of its order history where the merchant wants it.
CREATE TABLE imports (
    import_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    shop_id      bigint NOT NULL REFERENCES shops,
    kind         text NOT NULL CHECK (kind IN ('customers', 'orders')),
    state        text NOT NULL DEFAULT 'waiting'
                 CHECK (state IN ('waiting', 'exporting', 'reading', 'done', 'failed', 'cancelled')),
    -- Orders placed before this moment are left out; NULL means all.
    since        timestamptz,
    -- Shopify's bulk operation, and the lines of its file that are stored already.
    operation_id text,
    lines_read   bigint NOT NULL DEFAULT 0,
    -- Objects that Shopify counted, and those that are stored.
    expected     bigint,
    stored       bigint NOT NULL DEFAULT 0,
    error        text NOT NULL DEFAULT '',
    failures     integer NOT NULL DEFAULT 0,
    asked_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    next_step_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at  timestamptz
);
CALL protect_tenant_table('imports');
-- One at a time of each kind: a second is the first.
CREATE UNIQUE INDEX imports_running ON imports (shop_id, kind) WHERE finished_at IS NULL;
CREATE INDEX imports_due ON imports (next_step_at) WHERE finished_at IS NULL;
GRANT SELECT, INSERT, UPDATE ON imports TO sellflow_worker;

-- Orders placed before it bring no points. NULL counts them all.
ALTER TABLE earning_rules ADD COLUMN starts_at timestamptz;

-- Feeding -----------------------------------------------------------------------------------------------------
-- Notes that deliveries of a shop were received, and returns the ids of those that were not before: the same record
-- that stops a webhook's second delivery stops a second feeding of one revision.
CREATE FUNCTION receive_once(of_shop bigint, webhook_ids text[]) RETURNS SETOF text
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp
AS $$
    INSERT INTO receipts (app_id, shop_domain, webhook_id)
    SELECT s.app_id, s.domain, w.webhook_id
    FROM shops s CROSS JOIN unnest(webhook_ids) AS w (webhook_id)
    WHERE s.shop_id = of_shop AND of_shop = ANY (current_shops())
    ORDER BY w.webhook_id
    ON CONFLICT DO NOTHING
    RETURNING webhook_id
$$;
REVOKE ALL ON FUNCTION receive_once FROM PUBLIC;
GRANT EXECUTE ON FUNCTION receive_once TO sellflow_worker;

-- When a payload says that its resource was updated; NULL where it says nothing of the kind.
CREATE FUNCTION payload_revision(payload bytea) RETURNS timestamptz
LANGUAGE plpgsql STABLE PARALLEL SAFE
AS $$
BEGIN
    RETURN (convert_from(payload, 'UTF8')::json ->> 'updated_at')::timestamptz;
EXCEPTION WHEN data_exception THEN -- class 22: no UTF-8, no JSON, no moment
    RETURN NULL;
END
$$;

-- The number that a payload gives its resource; NULL where it gives none.
CREATE FUNCTION payload_id(payload bytea) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
BEGIN
    RETURN (convert_from(payload, 'UTF8')::json ->> 'id')::bigint;
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION payload_revision, payload_id FROM PUBLIC;
GRANT EXECUTE ON FUNCTION payload_revision, payload_id TO sellflow_worker;
