"""Imports that merchants begin themselves."""

from sellflow.postgres.migrate import run_sql_file

revision = "0018_merchants_imports"
down_revision = "0017_programs"


def upgrade() -> None:
    """Run the SQL file of this revision."""
    run_sql_file("0018_merchants_imports")
