"""Requests to export or erase somebody's data, and what is remembered of those that were erased."""

from sellflow.postgres.migrate import run_sql_file

revision = "0015_compliance"
down_revision = "0014_reconciliation"


def upgrade() -> None:
    """Run the SQL file of this revision."""
    run_sql_file("0015_compliance")
