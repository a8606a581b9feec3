"""Programmes instead of single rules, and a ledger for everything that moves points."""

from sellflow.postgres.migrate import run_sql_file

revision = "0017_programs"
down_revision = "0016_plans"


def upgrade() -> None:
    """Run the SQL file of this revision."""
    run_sql_file("0017_programs")
