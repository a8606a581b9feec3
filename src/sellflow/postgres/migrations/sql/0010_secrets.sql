-- Master keys ------------------------------------------------------------------------------------------------
-- Which master keys there are. The key itself is in its provider's hands; what KMS encrypted stands here as such.
CREATE TABLE master_keys (
    provider       text NOT NULL CHECK (provider IN ('local', 'aws-kms')),
    master_key_id  text NOT NULL CHECK (master_key_id <> ''),
    -- The one that wraps new data keys.
    is_current     boolean NOT NULL,
    wrapped        bytea,
    -- The ARN of the KMS key.
    service_key_id text,
    created_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (provider, master_key_id),
    CHECK ((provider = 'local') = (wrapped IS NULL)),
    CHECK ((wrapped IS NULL) = (service_key_id IS NULL))
);
CREATE UNIQUE INDEX master_keys_current ON master_keys (is_current) WHERE is_current;
GRANT SELECT ON master_keys TO sellflow_web, sellflow_worker;

-- Data keys --------------------------------------------------------------------------------------------------
-- The key that seals a shop's secrets (shop_id NULL: the installation's), wrapped by a master key.
CREATE TABLE data_keys (
    data_key_id   uuid PRIMARY KEY,
    shop_id       bigint REFERENCES shops,
    provider      text NOT NULL,
    master_key_id text NOT NULL,
    wrapped       bytea NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    wrapped_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- What wraps anything cannot be dropped; whoever is about to commit a data key is waited for.
    FOREIGN KEY (provider, master_key_id) REFERENCES master_keys
);
-- One a shop, also when eight processes make its first at once.
CREATE UNIQUE INDEX data_keys_shop ON data_keys (COALESCE(shop_id, 0));
CREATE INDEX data_keys_master ON data_keys (provider, master_key_id);
CALL protect_tenant_table('data_keys');
-- The installation's own opens what belongs to no shop, such as the secrets of apps. The owner alone makes it.
CREATE POLICY installations_own ON data_keys FOR SELECT TO sellflow_web, sellflow_worker USING (shop_id IS NULL);
-- Whoever seals a shop's first secret makes its key. Wrapping anew and erasing are the owner's.
GRANT SELECT ON data_keys TO sellflow_web, sellflow_worker;
GRANT INSERT (data_key_id, shop_id, provider, master_key_id, wrapped) ON data_keys TO sellflow_web, sellflow_worker;
