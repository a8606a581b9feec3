"""Orders and the points ledger."""

from sellflow.postgres.migrate import run_sql_file

revision = "0004_loyalty"
down_revision = "0003_queue"


def upgrade() -> None:
    """Run the SQL file of this revision."""
    run_sql_file("0004_loyalty")
