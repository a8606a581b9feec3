"""What operators look at: figures of the queues, and who resolved a dead letter."""

from sellflow.postgres.migrate import run_sql_file

revision = "0008_operations"
down_revision = "0007_outgoing"


def upgrade() -> None:
    """Run the SQL file of this revision."""
    run_sql_file("0008_operations")
