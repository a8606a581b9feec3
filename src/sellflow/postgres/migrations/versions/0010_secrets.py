"""Master and data keys."""

from sellflow.postgres.migrate import run_sql_file

revision = "0010_secrets"
down_revision = "0009_services"


def upgrade() -> None:
    """Run the SQL file of this revision."""
    run_sql_file("0010_secrets")
