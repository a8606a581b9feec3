"""Customers, reconciliation and imports."""

from sellflow.postgres.migrate import run_sql_file

revision = "0014_reconciliation"
down_revision = "0013_edge"


def upgrade() -> None:
    """Run the SQL file of this revision."""
    run_sql_file("0014_reconciliation")
