-- One paid order becomes its rows in one call, and so in one transaction and one round trip: the order, its lines, a
-- transfer with two entries, a lot and the customer's balance. An order that is there already changes nothing.
CREATE FUNCTION award_order(
    of_shop bigint, of_order bigint, called text, in_currency text, costing numeric, status text,
    placed_at timestamptz, changed_at timestamptz, customer bigint,
    line_ids bigint[], products bigint[], variants bigint[], quantities integer[], prices numeric[], discounts numeric[]
) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    rule           record;
    earned         bigint;
    account        bigint;
    balance_after  bigint;
    transfer       bigint;
BEGIN
    SELECT s.app_id, v.version, v.document #>> '{rules,0,id}' AS rule_id,
           (v.document #>> '{rules,0,points_per_unit}')::numeric AS points_per_unit,
           v.document #>> '{rules,0,rounding}' AS rounding, i.account_id AS issued_account INTO rule
    FROM shops s
    JOIN programs v ON v.shop_id = s.shop_id
    JOIN accounts i ON i.shop_id = s.shop_id AND i.kind = 'issued' AND i.customer_id IS NULL
    WHERE s.shop_id = of_shop
    ORDER BY v.version DESC LIMIT 1;

    INSERT INTO orders (shop_id, order_id, app_id, name, currency, presentment_currency, subtotal,
                        presentment_subtotal, financial_status, ordered_at, revised_at, revision_rank,
                        customer_id, customer_revised_at, program_version)
    VALUES (of_shop, of_order, rule.app_id, called, in_currency, in_currency, costing, costing, status, placed_at,
            changed_at, '', customer, changed_at, rule.version)
    ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    INSERT INTO order_lines (shop_id, order_id, line_id, product_id, variant_id, quantity, price, discount)
    SELECT of_shop, of_order, l.* FROM unnest(line_ids, products, variants, quantities, prices, discounts) AS l;

    earned := floor(costing * rule.points_per_unit);
    IF earned = 0 THEN
        RETURN;
    END IF;
    INSERT INTO accounts (shop_id, kind, customer_id, balance)
    VALUES (of_shop, 'customer', customer, earned)
    ON CONFLICT (shop_id, kind, customer_id) DO UPDATE SET balance = accounts.balance + EXCLUDED.balance
    RETURNING account_id, balance INTO account, balance_after;
    INSERT INTO transfers (shop_id, kind, source, rule, revision, points, snapshot, day, event_id)
    VALUES (of_shop, 'earn', 'order:' || of_order, rule.rule_id, 1, earned,
            jsonb_build_object(
                'order', called, 'program_version', rule.version, 'points_per_unit', rule.points_per_unit::text,
                'rounding', rule.rounding, 'currency', in_currency, 'subtotal', costing::text, 'refunds', 0,
                'financial_status', status, 'target', earned
            ),
            (now() AT TIME ZONE 'UTC')::date, of_order)
    RETURNING transfer_id INTO transfer;
    INSERT INTO entries (transfer_id, account_id, shop_id, points, balance_after)
    VALUES (transfer, account, of_shop, earned, balance_after), (transfer, rule.issued_account, of_shop, -earned, NULL);
    INSERT INTO lots (shop_id, account_id, transfer_id, points, remaining)
    VALUES (of_shop, account, transfer, earned, earned);
END
$$;
