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

-- What was stored in the clear ---------------------------------------------------------------------------------
-- This script has no keys: what it finds waits here until `sellflow migrate`, a moment later, has sealed it row by
-- row and empties the file. The owner alone may read it, as before.
CREATE TABLE unsealed_secrets (
    kind   text NOT NULL CHECK (kind IN ('app', 'previous_app', 'endpoint', 'signing_key')),
    row_id text NOT NULL,
    plain  text NOT NULL,
    PRIMARY KEY (kind, row_id)
);
INSERT INTO unsealed_secrets (kind, row_id, plain)
SELECT 'app', handle, client_secret FROM apps
UNION ALL SELECT 'previous_app', handle, previous_secret FROM apps WHERE previous_secret IS NOT NULL
UNION ALL SELECT 'endpoint', secret_id::text, secret FROM endpoint_secrets
UNION ALL SELECT 'signing_key', kid, encode(private_key, 'hex') FROM signing_keys;

-- A change of type writes the table anew: nothing in the clear stays behind in its file. What is written from now on
-- is sealed; the rows of before are empty until they are.
ALTER TABLE apps
    DROP CONSTRAINT apps_client_secret_check,
    DROP CONSTRAINT apps_previous_secret_check,
    ALTER client_secret DROP NOT NULL,
    ALTER client_secret TYPE bytea USING NULL,
    ALTER previous_secret TYPE bytea USING NULL;
ALTER TABLE apps ADD CONSTRAINT apps_client_secret_sealed CHECK (client_secret IS NOT NULL) NOT VALID;
ALTER TABLE endpoint_secrets
    DROP CONSTRAINT endpoint_secrets_secret_check,
    ALTER secret DROP NOT NULL,
    ALTER secret TYPE bytea USING NULL;
ALTER TABLE endpoint_secrets ADD CONSTRAINT endpoint_secrets_sealed CHECK (secret IS NOT NULL) NOT VALID;
ALTER TABLE signing_keys
    DROP CONSTRAINT signing_keys_private_key_check,
    ALTER private_key DROP NOT NULL,
    ALTER private_key TYPE bytea USING NULL;
ALTER TABLE signing_keys ADD CONSTRAINT signing_keys_sealed CHECK (private_key IS NOT NULL) NOT VALID;
