"""Tokens for the Admin API, how they are obtained one process at a time, and where an app's Shopify is."""

from sellflow.postgres.migrate import run_sql_file

revision = "0011_access_tokens"
down_revision = "0010_secrets"


def upgrade() -> None:
    """Run the SQL file of this revision."""
    run_sql_file("0011_access_tokens")
