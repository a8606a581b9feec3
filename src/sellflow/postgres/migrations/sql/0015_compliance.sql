-- Requests ---------------------------------------------------------------------------------------------------
-- What Shopify asked for on behalf of a customer or a merchant, one row a webhook; afterwards the record that it was
-- done, with nothing in it of whom it was about.
CREATE TABLE compliance_requests (
    request_id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    app_id          integer NOT NULL,
    -- NULL where the shop is not known (any more).
    shop_id         bigint,
    -- NULL once the shop is erased.
    shop_domain     text,
    kind            text NOT NULL CHECK (kind IN ('data_request', 'customer_redact', 'shop_redact')),
    -- {customer_id, email, phone, order_ids}; NULL once they are erased.
    subject         jsonb,
    -- Shopify's number of a data request.
    external_id     bigint,
    -- The webhook.
    source_day      date NOT NULL,
    source_event_id bigint NOT NULL,
    received_at     timestamptz NOT NULL,
    due_at          timestamptz NOT NULL,
    -- held: waits for an operator's word; settling: erased, to be gone through once more.
    state           text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'held', 'settling', 'done', 'refused')),
    -- Why it is held or refused.
    reason          text NOT NULL DEFAULT '',
    confirmed       boolean NOT NULL DEFAULT false,
    attempts        integer NOT NULL DEFAULT 0,
    last_error      text NOT NULL DEFAULT '',
    next_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Transactions before this one may have written what the first pass did not see.
    fence           xid8,
    finished_at     timestamptz,
    -- Rows erased, by table.
    record          jsonb NOT NULL DEFAULT '{}',
    -- Tables and partitions to be vacuumed, which is what takes old rows off the disk.
    touched         text[] NOT NULL DEFAULT '{}',
    -- Until when an export can be fetched.
    expires_at      timestamptz,
    -- The first day of the log to be searched; NULL for all of them.
    since_day       date,
    CHECK ((state IN ('done', 'refused')) = (finished_at IS NOT NULL)),
    UNIQUE (source_day, source_event_id)
);
CREATE INDEX compliance_requests_due ON compliance_requests (next_at) WHERE state IN ('open', 'settling');
CREATE INDEX compliance_requests_unfinished ON compliance_requests (due_at) WHERE finished_at IS NULL;
CREATE INDEX compliance_requests_shop ON compliance_requests (shop_id, request_id);
CALL protect_tenant_table('compliance_requests');
-- Handlers write requests down; the owner fulfils them. Nobody else may change one.
GRANT SELECT (request_id, app_id, shop_id, shop_domain, kind, source_day, source_event_id) ON compliance_requests
    TO sellflow_worker;
GRANT INSERT (app_id, shop_id, shop_domain, kind, subject, external_id, source_day, source_event_id, received_at, due_at)
    ON compliance_requests TO sellflow_worker;
-- A merchant sees those of the own shop.
CALL open_to_admin('compliance_requests');
GRANT SELECT ON compliance_requests TO sellflow_admin;

-- Exports ----------------------------------------------------------------------------------------------------
-- The file of a data request in parts, encrypted under the shop's key.
CREATE TABLE compliance_exports (
    request_id bigint NOT NULL REFERENCES compliance_requests ON DELETE CASCADE,
    part       integer NOT NULL,
    shop_id    bigint,
    sealed     bytea NOT NULL,
    PRIMARY KEY (request_id, part)
);
CALL protect_tenant_table('compliance_exports');
CREATE INDEX compliance_exports_shop ON compliance_exports (shop_id);
CALL open_to_admin('compliance_exports');
GRANT SELECT ON compliance_exports TO sellflow_admin;

-- Tombstones -------------------------------------------------------------------------------------------------
-- Who was erased, as a keyed hash of shop and id, so that late webhooks about them are found. The key is not here.
CREATE TABLE tombstones (
    shop_id    bigint NOT NULL,
    hash       bytea NOT NULL CHECK (octet_length(hash) = 32),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (shop_id, hash)
);
CREATE INDEX tombstones_created ON tombstones (created_at);
CALL protect_tenant_table('tombstones');

-- How far the log was searched for late webhooks, and the key of the hashes, encrypted. One row.
CREATE TABLE compliance_progress (
    only_row  boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    day       date,
    event_id  bigint,
    hash_key  bytea NOT NULL
);

-- The log ----------------------------------------------------------------------------------------------------
-- With events_key (shop_id, key) WHERE key <> '', all of a shop's events. Few have no key, so ingest hardly pays.
CREATE INDEX events_unkeyed ON events (shop_id) WHERE key = '';
-- Deliveries of events that are erased; days as before.
CREATE INDEX endpoint_deliveries_event ON endpoint_deliveries (day, event_id);
DROP INDEX endpoint_deliveries_day;
-- The check of a foreign key, when a shop's accounts go.
CREATE INDEX shortfalls_account ON shortfalls (account_id);

-- The books of a shop that is erased -----------------------------------------------------------------------------
-- Append-only, with one exception: Shopify asked for the erasure of the whole shop, that is being done, and the
-- transaction says so. Its owner alone may delete at all.
CREATE FUNCTION erased_shop() RETURNS bigint
LANGUAGE sql STABLE
AS $$
    SELECT r.shop_id FROM compliance_requests r
    WHERE r.shop_id = NULLIF(current_setting('sellflow.erased_shop', true), '')::bigint
      AND r.kind = 'shop_redact' AND r.state IN ('open', 'settling', 'done')
    LIMIT 1
$$;
REVOKE ALL ON FUNCTION erased_shop FROM PUBLIC;

CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    IF TG_OP = 'DELETE' AND erased_shop() IS NOT NULL THEN
        RETURN NULL; -- row by row, the trigger below makes sure that no other shop's are among them
    END IF;
    RAISE EXCEPTION 'table % is append-only: post a correction instead', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END
$$;

CREATE FUNCTION refuse_other_shops() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    IF OLD.shop_id IS DISTINCT FROM NULLIF(current_setting('sellflow.erased_shop', true), '')::bigint THEN
        RAISE EXCEPTION 'table % is append-only, and shop % is not being erased', TG_TABLE_NAME, OLD.shop_id
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN OLD;
END
$$;
CREATE TRIGGER erased_shop_alone BEFORE DELETE ON transfers FOR EACH ROW EXECUTE FUNCTION refuse_other_shops();
CREATE TRIGGER erased_shop_alone BEFORE DELETE ON entries FOR EACH ROW EXECUTE FUNCTION refuse_other_shops();
CREATE TRIGGER erased_shop_alone BEFORE DELETE ON allocations FOR EACH ROW EXECUTE FUNCTION refuse_other_shops();
