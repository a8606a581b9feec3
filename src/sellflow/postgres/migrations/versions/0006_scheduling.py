"""Leases, periodic jobs, and what housekeeping asks of the tables."""

from sellflow.postgres.migrate import run_sql_file

revision = "0006_scheduling"
down_revision = "0005_customer_sessions"


def upgrade() -> None:
    """Run the SQL file of this revision."""
    run_sql_file("0006_scheduling")
