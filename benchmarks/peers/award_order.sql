-- One paid order becomes its rows in one statement, and so in one transaction and one round trip: the order, its
-- lines, a transfer with two entries, a lot and the customer's balance. An order that is there already changes nothing.
-- $1 shop, $2 order, $3 name, $4 currency, $5 subtotal, $6 status, $7 ordered at, $8 revised at, $9 customer,
-- $10 to $15 the lines' ids, products, variants, quantities, prices and discounts.
WITH rule AS (
    SELECT s.shop_id, s.app_id, v.rule_id, v.version, v.points_per_unit, v.rounding, i.account_id AS issued_account
    FROM shops s
    JOIN earning_rule_versions v ON v.shop_id = s.shop_id
    JOIN accounts i ON i.shop_id = s.shop_id AND i.kind = 'issued' AND i.customer_id IS NULL
    WHERE s.shop_id = $1::bigint
    ORDER BY v.version DESC
    LIMIT 1
), placed AS (
    INSERT INTO orders (shop_id, order_id, app_id, name, currency, presentment_currency, subtotal,
                        presentment_subtotal, financial_status, ordered_at, revised_at, revision_rank,
                        customer_id, customer_revised_at, rule_id, rule_version)
    SELECT shop_id, $2::bigint, app_id, $3::text, $4::text, $4::text, $5::numeric, $5::numeric, $6::text,
           $7::timestamptz, $8::timestamptz, '', $9::bigint, $8::timestamptz, rule_id, version
    FROM rule
    ON CONFLICT DO NOTHING
    RETURNING shop_id, order_id, name, currency, subtotal, financial_status, customer_id
), lines AS (
    INSERT INTO order_lines (shop_id, order_id, line_id, product_id, variant_id, quantity, price, discount)
    SELECT p.shop_id, p.order_id, l.line_id, l.product_id, l.variant_id, l.quantity, l.price, l.discount
    FROM placed p CROSS JOIN unnest(
        $10::bigint[], $11::bigint[], $12::bigint[], $13::integer[], $14::numeric[], $15::numeric[]
    ) AS l (line_id, product_id, variant_id, quantity, price, discount)
), earned AS (
    SELECT p.*, r.rule_id, r.version, r.points_per_unit, r.rounding, r.issued_account,
           floor(p.subtotal * r.points_per_unit)::bigint AS points
    FROM placed p JOIN rule r USING (shop_id)
), account AS (
    INSERT INTO accounts (shop_id, kind, customer_id, balance)
    SELECT shop_id, 'customer', customer_id, points FROM earned WHERE points > 0
    ON CONFLICT (shop_id, kind, customer_id) DO UPDATE SET balance = accounts.balance + EXCLUDED.balance
    RETURNING account_id, balance
), transfer AS (
    INSERT INTO transfers (shop_id, kind, source, rule_id, revision, points, snapshot, day, event_id)
    SELECT shop_id, 'earn', 'order:' || order_id, rule_id, 1, points,
           jsonb_build_object(
               'order', name, 'rule_version', version, 'points_per_unit', points_per_unit::text,
               'rounding', rounding, 'currency', currency, 'subtotal', subtotal::text, 'refunds', 0,
               'financial_status', financial_status, 'target', points
           ),
           (now() AT TIME ZONE 'UTC')::date, order_id
    FROM earned WHERE points > 0
    RETURNING transfer_id, shop_id, points
), entry AS (
    INSERT INTO entries (transfer_id, account_id, shop_id, points, balance_after)
    SELECT t.transfer_id, a.account_id, t.shop_id, t.points, a.balance FROM transfer t CROSS JOIN account a
    UNION ALL
    SELECT t.transfer_id, e.issued_account, t.shop_id, -t.points, NULL FROM transfer t JOIN earned e USING (shop_id)
)
INSERT INTO lots (shop_id, account_id, transfer_id, points, remaining)
SELECT t.shop_id, a.account_id, t.transfer_id, t.points, t.points FROM transfer t CROSS JOIN account a
