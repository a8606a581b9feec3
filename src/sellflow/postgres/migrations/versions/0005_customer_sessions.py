"""The keys that sign customers' tokens."""

from sellflow.postgres.migrate import run_sql_file

revision = "0005_customer_sessions"
down_revision = "0004_loyalty"


def upgrade() -> None:
    """Run the SQL file of this revision."""
    run_sql_file("0005_customer_sessions")
