-- Merchants begin and stop imports of their own shops.
CALL open_to_admin('imports');
GRANT SELECT, INSERT (shop_id, kind, since), UPDATE (state, error, finished_at) ON imports TO sellflow_admin;
