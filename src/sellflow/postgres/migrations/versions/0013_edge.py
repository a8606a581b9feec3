"""Who calls from outside: service keys, customers' sessions, idempotency keys, shop settings, the login of admins."""

from sellflow.postgres.migrate import run_sql_file

revision = "0013_edge"
down_revision = "0012_admin_calls"


def upgrade() -> None:
    """Run the SQL file of this revision."""
    run_sql_file("0013_edge")
