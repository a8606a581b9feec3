"""What the services of other teams have migrated."""

from sellflow.postgres.migrate import run_sql_file

revision = "0009_services"
down_revision = "0008_operations"


def upgrade() -> None:
    """Run the SQL file of this revision."""
    run_sql_file("0009_services")
