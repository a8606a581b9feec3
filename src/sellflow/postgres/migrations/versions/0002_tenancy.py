"""Logins, apps and shops, and the row-level security of every tenant table."""

from sellflow.postgres.migrate import run_sql_file

revision = "0002_tenancy"
down_revision = "0001_pgmq"


def upgrade() -> None:
    """Run the SQL file of this revision."""
    run_sql_file("0002_tenancy")
