-- Keys that sign customers' tokens (EdDSA). They belong to the installation, not to a shop: the token names its
-- shop under the signature. Old keys stay until the last token they signed has run out.
CREATE TABLE signing_keys (
    kid         text PRIMARY KEY,
    private_key bytea NOT NULL CHECK (octet_length(private_key) = 32),
    public_key  bytea NOT NULL CHECK (octet_length(public_key) = 32),
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    retired_at  timestamptz
);
-- Web verifies; only the owner signs.
GRANT SELECT (kid, public_key, created_at, retired_at) ON signing_keys TO sellflow_web;
