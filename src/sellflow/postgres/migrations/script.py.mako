"""${message}."""

from sellflow.postgres.migrate import run_sql_file

revision = "${up_revision}"
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    """Run the SQL file of this revision."""
    run_sql_file("${up_revision}")
