"""Endpoints outside, and what was delivered to them."""

from sellflow.postgres.migrate import run_sql_file

revision = "0007_outgoing"
down_revision = "0006_scheduling"


def upgrade() -> None:
    """Run the SQL file of this revision."""
    run_sql_file("0007_outgoing")
