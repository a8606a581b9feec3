-- Programmes -------------------------------------------------------------------------------------------------
-- Everything a merchant decides about points, as one document (sellflow.loyalty.program). A change is a new version of
-- the whole; what was earned keeps the version it was earned by.
CREATE TABLE programs (
    shop_id       bigint NOT NULL REFERENCES shops,
    version       integer NOT NULL CHECK (version > 0),
    document      jsonb NOT NULL,
    saved_by      text NOT NULL,
    in_force_from timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (shop_id, version)
);
CALL protect_tenant_table('programs');

INSERT INTO programs (shop_id, version, document, saved_by, in_force_from)
SELECT v.shop_id, v.version,
       jsonb_build_object(
           'starts_at', r.starts_at,
           'rules', jsonb_build_array(jsonb_build_object(
               'id', 'spend', 'kind', 'spend', 'points_per_unit', v.points_per_unit::text, 'rounding', v.rounding
           ))
       ),
       'migration', v.in_force_from
FROM earning_rule_versions v JOIN earning_rules r USING (rule_id);

ALTER TABLE orders DROP COLUMN rule_id;
ALTER TABLE orders RENAME COLUMN rule_version TO program_version;
DROP TABLE earning_rule_versions, earning_rules;

-- The ledger -------------------------------------------------------------------------------------------------
-- Rules are named by their ids in the programme.
ALTER TABLE transfers RENAME COLUMN rule_id TO rule;
ALTER TABLE transfers
    ALTER COLUMN rule TYPE text USING CASE WHEN rule IS NOT NULL THEN 'spend' END,
    -- What is not caused by an event is made by a job or a person: the snapshot says by whom and why.
    ALTER COLUMN day DROP NOT NULL,
    ALTER COLUMN event_id DROP NOT NULL,
    DROP CONSTRAINT transfers_kind_check,
    ADD CONSTRAINT transfers_kind_check CHECK (kind IN (
        'earn', 'clawback', 'release', 'redeem', 'give_back', 'expire', 'adjust', 'merge', 'import', 'forgive'
    ));

-- When a lot of a pending account is released; NULL there means once everything was fulfilled.
ALTER TABLE lots ADD COLUMN release_at timestamptz;
CREATE INDEX lots_expiring ON lots (expires_at, lot_id) WHERE remaining > 0 AND expires_at IS NOT NULL;
CREATE INDEX lots_released ON lots (release_at, lot_id) WHERE remaining > 0 AND release_at IS NOT NULL;

-- False where a shop's programme allows negative balances: what is earned later does not cover it.
ALTER TABLE shortfalls ADD COLUMN is_recovered boolean NOT NULL DEFAULT true;

-- Members ----------------------------------------------------------------------------------------------------
-- What loyalty knows of customers besides their points; a customer has a row once there is something to know.
CREATE TABLE members (
    shop_id        bigint NOT NULL REFERENCES shops,
    customer_id    bigint NOT NULL,
    joined_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- The year does not matter to anybody: 1904 (a leap year) where it is not known.
    birthday       date,
    -- A level's id in the programme; NULL is none.
    tier           text,
    tier_since     timestamptz,
    -- Since when the threshold of the tier is not met any more: grace counts from it.
    tier_lapsed_at timestamptz,
    referral_code  text,
    PRIMARY KEY (shop_id, customer_id),
    UNIQUE (shop_id, referral_code)
);
CALL protect_tenant_table('members');

-- Rights -----------------------------------------------------------------------------------------------------
GRANT SELECT ON programs, members TO sellflow_web, sellflow_worker;
GRANT INSERT, UPDATE ON members TO sellflow_web, sellflow_worker;
-- A customer redeems through the web login, a merchant adjusts through the admin's: both post as the worker does.
GRANT INSERT ON accounts, transfers, entries, allocations TO sellflow_web;
GRANT INSERT, UPDATE ON lots, shortfalls TO sellflow_web;
GRANT UPDATE (balance) ON accounts TO sellflow_web;
GRANT USAGE ON SEQUENCE transfers_transfer_id_seq, lots_lot_id_seq TO sellflow_web;

CALL open_to_admin('programs');
CALL open_to_admin('members');
CALL open_to_admin('orders');
CALL open_to_admin('order_lines');
CALL open_to_admin('refunds');
CALL open_to_admin('refund_lines');
CALL open_to_admin('accounts');
CALL open_to_admin('transfers');
CALL open_to_admin('entries');
CALL open_to_admin('lots');
CALL open_to_admin('shortfalls');
CALL open_to_admin('allocations');
CALL open_to_admin('customers');
GRANT SELECT ON programs, members, orders, order_lines, refunds, refund_lines, accounts, transfers, entries, lots,
    shortfalls, allocations, customers TO sellflow_admin;
GRANT INSERT ON programs, accounts, transfers, entries, allocations TO sellflow_admin;
GRANT INSERT, UPDATE ON members, lots, shortfalls TO sellflow_admin;
GRANT UPDATE (balance) ON accounts TO sellflow_admin;
GRANT USAGE ON SEQUENCE transfers_transfer_id_seq, lots_lot_id_seq TO sellflow_admin;
