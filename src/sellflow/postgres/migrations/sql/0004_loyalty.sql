-- Orders ---------------------------------------------------------------------------------------------------
-- The newest known state of each order. They outlive the event log, so nothing computed from them depends on it.
-- A row may exist before its order: a refund that came first makes it, and `revised_at` is NULL until then.
CREATE TABLE orders (
    shop_id               bigint NOT NULL REFERENCES shops,
    order_id              bigint NOT NULL,
    -- With order_id unique: Shopify's ids are, across all shops, and the header that names the shop is not signed.
    app_id                integer NOT NULL,
    name                  text,
    currency              text,
    presentment_currency  text,
    -- Items after discounts and before returns, tax and shipping; in shop money and in the customer's.
    subtotal              numeric(20, 4) CHECK (subtotal >= 0),
    presentment_subtotal  numeric(20, 4) CHECK (presentment_subtotal >= 0),
    financial_status      text,
    ordered_at            timestamptz,
    cancelled_at          timestamptz,
    -- Shopify's updated_at of the snapshot above, and what breaks a tie within its one-second grain.
    revised_at            timestamptz,
    revision_rank         text COLLATE "C",
    -- The customer of the newest snapshot that named one.
    customer_id           bigint,
    customer_revised_at   timestamptz,
    -- The rule in force when this order was first found worth points; never changed afterwards.
    rule_id               bigint,
    rule_version          integer,
    recorded_at           timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (shop_id, order_id),
    UNIQUE (app_id, order_id)
);
CALL protect_tenant_table('orders');
CREATE INDEX orders_name ON orders (shop_id, name);

-- Lines and refunds have no foreign keys: they are written in one transaction with their order or refund, and the
-- check, planned while the tables were empty, reads all of a shop's orders for each line.
CREATE TABLE order_lines (
    shop_id    bigint NOT NULL,
    order_id   bigint NOT NULL,
    line_id    bigint NOT NULL,
    product_id bigint,
    variant_id bigint,
    quantity   integer NOT NULL CHECK (quantity >= 0),
    price      numeric(20, 4) NOT NULL CHECK (price >= 0),
    -- Everything taken off this line, order-wide discounts included.
    discount   numeric(20, 4) NOT NULL CHECK (discount >= 0),
    PRIMARY KEY (shop_id, order_id, line_id)
);
CALL protect_tenant_table('order_lines');

CREATE TABLE refunds (
    shop_id     bigint NOT NULL,
    refund_id   bigint NOT NULL,
    order_id    bigint NOT NULL,
    -- What was given back for items, shipping and duties excluded.
    amount      numeric(20, 4) NOT NULL CHECK (amount >= 0),
    -- NULL where the amount is in shop money; else the customer's currency, to be converted at the order's rate.
    currency    text,
    refunded_at timestamptz NOT NULL,
    PRIMARY KEY (shop_id, refund_id)
);
CALL protect_tenant_table('refunds');
CREATE INDEX refunds_order ON refunds (shop_id, order_id);

CREATE TABLE refund_lines (
    shop_id   bigint NOT NULL,
    refund_id bigint NOT NULL,
    line_id   bigint NOT NULL,
    quantity  integer NOT NULL CHECK (quantity >= 0),
    subtotal  numeric(20, 4) NOT NULL CHECK (subtotal >= 0),
    PRIMARY KEY (shop_id, refund_id, line_id)
);
CALL protect_tenant_table('refund_lines');

-- Earning rules ----------------------------------------------------------------------------------------------
CREATE TABLE earning_rules (
    rule_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    shop_id    bigint NOT NULL REFERENCES shops,
    kind       text NOT NULL CHECK (kind IN ('spend')),
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (shop_id, kind)
);
CALL protect_tenant_table('earning_rules');

-- A change of a rule is a new version; what was earned keeps the version it was earned by.
CREATE TABLE earning_rule_versions (
    shop_id         bigint NOT NULL,
    rule_id         bigint NOT NULL REFERENCES earning_rules,
    version         integer NOT NULL,
    -- Points for one unit (1.00) of the shop's currency.
    points_per_unit numeric(12, 4) NOT NULL CHECK (points_per_unit BETWEEN 0 AND 1000000),
    rounding        text NOT NULL CHECK (rounding IN ('down', 'half_up', 'up')),
    in_force_from   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (rule_id, version)
);
CALL protect_tenant_table('earning_rule_versions');
CREATE INDEX earning_rule_versions_shop ON earning_rule_versions (shop_id);

-- The ledger -------------------------------------------------------------------------------------------------
-- Double entry: points move between accounts, nothing is created or lost. A customer's accounts hold a cached
-- balance and are locked, in id order, by whoever posts to them. A shop's own accounts hold none, because every
-- posting of the shop would wait for that one row.
CREATE TABLE accounts (
    account_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    shop_id     bigint NOT NULL REFERENCES shops,
    kind        text NOT NULL CHECK (kind IN ('issued', 'customer', 'customer_pending')),
    customer_id bigint,
    balance     bigint,
    created_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE NULLS NOT DISTINCT (shop_id, kind, customer_id),
    CHECK ((kind LIKE 'customer%') = (customer_id IS NOT NULL)),
    CHECK ((customer_id IS NULL) = (balance IS NULL))
);
CALL protect_tenant_table('accounts');

CREATE TABLE transfers (
    transfer_id  bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    shop_id      bigint NOT NULL REFERENCES shops,
    kind         text NOT NULL CHECK (kind IN ('earn', 'clawback')),
    -- What it was posted for, for example order:450789469.
    source       text NOT NULL,
    rule_id      bigint,
    -- Counts the postings of one source under one rule: the key that makes a second posting impossible.
    revision     integer NOT NULL,
    points       bigint NOT NULL CHECK (points > 0),
    -- What the points were computed from: rule version, rate, rounding, amounts.
    snapshot     jsonb NOT NULL,
    -- The event that caused it.
    day          date NOT NULL,
    event_id     bigint NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE NULLS NOT DISTINCT (shop_id, source, rule_id, revision)
);
CALL protect_tenant_table('transfers');

-- Entries and lots have no foreign keys: one statement writes them with their transfer, their account is locked
-- meanwhile, and nobody may delete either. The checks, six for each earn, were half of what that statement cost.
CREATE TABLE entries (
    transfer_id   bigint NOT NULL,
    account_id    bigint NOT NULL,
    shop_id       bigint NOT NULL,
    -- What the account gains (positive) or gives (negative).
    points        bigint NOT NULL CHECK (points <> 0),
    -- The account's balance afterwards; NULL for a shop's own accounts.
    balance_after bigint,
    PRIMARY KEY (account_id, transfer_id)
);
CALL protect_tenant_table('entries');
CREATE INDEX entries_transfer ON entries (transfer_id);

-- Points that can still be spent, by the earn they came from. Spent first in, first out (soonest expiry first).
CREATE TABLE lots (
    lot_id      bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    shop_id     bigint NOT NULL,
    account_id  bigint NOT NULL,
    transfer_id bigint NOT NULL UNIQUE,
    points      bigint NOT NULL CHECK (points > 0),
    remaining   bigint NOT NULL CHECK (remaining BETWEEN 0 AND points),
    expires_at  timestamptz,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
CALL protect_tenant_table('lots');
CREATE INDEX lots_open ON lots (account_id, expires_at, lot_id) WHERE remaining > 0;

-- Debits that no lot covered yet: the negative part of a balance. The next earn covers them, eldest first.
-- Always: balance = sum(lots.remaining) - sum(shortfalls.remaining).
CREATE TABLE shortfalls (
    transfer_id bigint PRIMARY KEY REFERENCES transfers,
    shop_id     bigint NOT NULL,
    account_id  bigint NOT NULL REFERENCES accounts,
    points      bigint NOT NULL CHECK (points > 0),
    remaining   bigint NOT NULL CHECK (remaining BETWEEN 0 AND points)
);
CALL protect_tenant_table('shortfalls');
CREATE INDEX shortfalls_open ON shortfalls (account_id, transfer_id) WHERE remaining > 0;

-- Which debit took how much of which lot.
CREATE TABLE allocations (
    lot_id      bigint NOT NULL REFERENCES lots,
    transfer_id bigint NOT NULL REFERENCES transfers,
    shop_id     bigint NOT NULL,
    points      bigint NOT NULL CHECK (points > 0),
    PRIMARY KEY (lot_id, transfer_id)
);
CALL protect_tenant_table('allocations');
CREATE INDEX allocations_transfer ON allocations (transfer_id);

-- The ledger is append-only, for its owner too.
CREATE FUNCTION refuse_change() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    RAISE EXCEPTION 'table % is append-only: post a correction instead', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END
$$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON transfers
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON entries
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON allocations
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Every transfer's entries are inserted by one statement and sum to zero.
CREATE FUNCTION check_entries_sum_to_zero() RETURNS trigger
LANGUAGE plpgsql
AS $$
DECLARE
    unbalanced bigint;
BEGIN
    SELECT transfer_id INTO unbalanced FROM inserted GROUP BY transfer_id HAVING sum(points) <> 0 LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'the entries of transfer % do not sum to zero', unbalanced USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER sums_to_zero AFTER INSERT ON entries
    REFERENCING NEW TABLE AS inserted
    FOR EACH STATEMENT EXECUTE FUNCTION check_entries_sum_to_zero();

-- Rights -----------------------------------------------------------------------------------------------------
GRANT SELECT ON orders, order_lines, refunds, refund_lines, earning_rules, earning_rule_versions,
    accounts, transfers, entries, lots, shortfalls, allocations TO sellflow_web, sellflow_worker;
GRANT INSERT, UPDATE ON orders, order_lines, refunds, refund_lines, lots, shortfalls TO sellflow_worker;
GRANT INSERT ON accounts, transfers, entries, allocations TO sellflow_worker;
GRANT UPDATE (balance) ON accounts TO sellflow_worker;
-- Ids are drawn before the rows are written, so that one pass of plain code can connect them.
GRANT USAGE ON SEQUENCE transfers_transfer_id_seq, lots_lot_id_seq TO sellflow_worker;
