"""The event log, receipts, and what becomes of messages."""

from sellflow.postgres.migrate import run_sql_file

revision = "0003_queue"
down_revision = "0002_tenancy"


def upgrade() -> None:
    """Run the SQL file of this revision."""
    run_sql_file("0003_queue")
