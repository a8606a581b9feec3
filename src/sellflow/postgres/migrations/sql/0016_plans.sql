-- Plans ------------------------------------------------------------------------------------------------------
-- What an operator offers merchants. A limit that is NULL is none; a rate that is NULL is the installation's setting.
CREATE TABLE plans (
    handle                       text PRIMARY KEY CHECK (handle ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
    -- Also the name of its subscriptions at Shopify.
    name                         text NOT NULL UNIQUE CHECK (name <> ''),
    description                  text NOT NULL DEFAULT '',
    mobile_requests_per_second   double precision CHECK (mobile_requests_per_second > 0),
    merchant_requests_per_second double precision CHECK (merchant_requests_per_second > 0),
    service_requests_per_second  double precision CHECK (service_requests_per_second > 0),
    orders_per_month             integer CHECK (orders_per_month >= 0),
    customers                    integer CHECK (customers >= 0),
    endpoints                    integer CHECK (endpoints >= 0),
    -- Names of what it opens; * is everything.
    features                     text[] NOT NULL DEFAULT '{}' CHECK (array_position(features, NULL) IS NULL),
    -- NULL: not to be paid for through Shopify.
    price                        numeric(12, 2) CHECK (price > 0),
    currency                     text CHECK (currency ~ '^[A-Z]{3}$'),
    billing_interval             text CHECK (billing_interval IN ('EVERY_30_DAYS', 'ANNUAL')),
    trial_days                   integer NOT NULL DEFAULT 0 CHECK (trial_days BETWEEN 0 AND 1000),
    -- Handles and names at Shopify that mean this plan besides its own: of earlier prices, of other intervals.
    shopify_names                text[] NOT NULL DEFAULT '{}' CHECK (array_position(shopify_names, NULL) IS NULL),
    position                     integer NOT NULL DEFAULT 0,
    -- Whose a shop is that nobody gave another.
    is_default                   boolean NOT NULL DEFAULT false,
    -- Not offered any more; shops that have it keep it.
    archived_at                  timestamptz,
    CHECK ((price IS NULL) = (currency IS NULL) AND (price IS NULL) = (billing_interval IS NULL)),
    CHECK (NOT (is_default AND archived_at IS NOT NULL)),
    CHECK (NOT (is_default AND price IS NOT NULL))
);
CREATE UNIQUE INDEX plans_default ON plans (is_default) WHERE is_default;
GRANT SELECT ON plans TO sellflow_web, sellflow_worker, sellflow_admin;

-- Whoever runs this for their own shops is limited by nothing but the settings.
INSERT INTO plans (handle, name, description, features, is_default)
VALUES ('standard', 'Standard', 'Everything, without limits.', '{*}', true);

-- Apps: how their merchants pay ------------------------------------------------------------------------------
ALTER TABLE apps
    -- managed: Shopify App Pricing; manual: the Billing API; none: custom apps, which cannot bill.
    ADD COLUMN billing text NOT NULL DEFAULT 'none' CHECK (billing IN ('managed', 'manual', 'none')),
    -- Nobody pays for test subscriptions.
    ADD COLUMN billing_is_test boolean NOT NULL DEFAULT false,
    ADD COLUMN pricing_handle text CHECK (pricing_handle ~ '^[a-z0-9][a-z0-9-]{0,62}$');
COMMENT ON COLUMN apps.pricing_handle IS 'The handle of the app at Shopify, in the address of its pricing page. NULL: ours';

-- Which shop has which plan ----------------------------------------------------------------------------------
-- A history: what was said last of what is in effect holds, so that a word for later is taken back by a later word.
CREATE TABLE shop_plans (
    assignment_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    shop_id         bigint NOT NULL REFERENCES shops,
    plan            text NOT NULL REFERENCES plans,
    source          text NOT NULL CHECK (source IN ('operator', 'released', 'app_pricing', 'subscription', 'lapse')),
    -- An operator's name.
    set_by          text NOT NULL DEFAULT '',
    -- Shopify's number of the subscription.
    subscription_id bigint,
    reason          text NOT NULL DEFAULT '',
    said_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    effective_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    trial_ends_at   timestamptz
);
CREATE INDEX shop_plans_shop ON shop_plans (shop_id, assignment_id DESC);
CREATE INDEX shop_plans_plan ON shop_plans (plan);
CALL protect_tenant_table('shop_plans');
CALL open_to_admin('shop_plans');
-- The owner alone gives plans: by command, or by what Shopify says.
GRANT SELECT ON shop_plans TO sellflow_web, sellflow_worker, sellflow_admin;

-- What Shopify says of a shop's payments. Whoever hears that something changed asks for it to be read again.
CREATE TABLE shop_billing (
    shop_id            bigint PRIMARY KEY REFERENCES shops,
    asked_at           timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Before what stands here was read.
    checked_at         timestamptz,
    next_at            timestamptz NOT NULL DEFAULT clock_timestamp(),
    failures           integer NOT NULL DEFAULT 0,
    last_error         text NOT NULL DEFAULT '',
    -- The subscription that counts; NULL where there never was one.
    subscription_id    bigint,
    subscription_name  text,
    status             text,
    is_test            boolean,
    current_period_end timestamptz
);
CREATE INDEX shop_billing_due ON shop_billing (next_at);
CALL protect_tenant_table('shop_billing');
CALL open_to_admin('shop_billing');
GRANT SELECT ON shop_billing TO sellflow_web, sellflow_worker, sellflow_admin;
GRANT INSERT (shop_id), UPDATE (asked_at, next_at) ON shop_billing TO sellflow_worker, sellflow_admin;

-- Subscriptions that a merchant was asked to approve. One open offer of a plan: who asks twice is shown the same.
CREATE TABLE plan_offers (
    offer_id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    shop_id          bigint NOT NULL REFERENCES shops,
    plan             text NOT NULL REFERENCES plans,
    made_at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    made_by          text NOT NULL,
    subscription_id  bigint,
    confirmation_url text,
    closed_at        timestamptz
);
CREATE UNIQUE INDEX plan_offers_open ON plan_offers (shop_id, plan) WHERE closed_at IS NULL;
CREATE INDEX plan_offers_shop ON plan_offers (shop_id);
CREATE INDEX plan_offers_plan ON plan_offers (plan);
CALL protect_tenant_table('plan_offers');
GRANT SELECT, INSERT (shop_id, plan, made_by), UPDATE (subscription_id, confirmation_url, closed_at) ON plan_offers
    TO sellflow_web;

-- Usage ------------------------------------------------------------------------------------------------------
-- Orders by the day (UTC) that they were made on, and customers as of a day, counted afterwards.
CREATE TABLE plan_usage (
    shop_id    bigint NOT NULL REFERENCES shops,
    day        date NOT NULL,
    orders     integer NOT NULL DEFAULT 0,
    customers  integer,
    counted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (shop_id, day)
);
CALL protect_tenant_table('plan_usage');
CALL open_to_admin('plan_usage');
GRANT SELECT ON plan_usage TO sellflow_web, sellflow_worker, sellflow_admin;
-- Orders are stored about in the order that they are made in, so a summary of the blocks finds the last days' without
-- costing what stores them an entry each.
CREATE INDEX orders_made ON orders USING brin (ordered_at) WITH (autosummarize = on, pages_per_range = 32);
