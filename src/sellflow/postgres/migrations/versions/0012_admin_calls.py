"""The Admin API: the bucket of points of each shop, and calls that are stored before they are sent."""

from sellflow.postgres.migrate import run_sql_file

revision = "0012_admin_calls"
down_revision = "0011_access_tokens"


def upgrade() -> None:
    """Run the SQL file of this revision."""
    run_sql_file("0012_admin_calls")
