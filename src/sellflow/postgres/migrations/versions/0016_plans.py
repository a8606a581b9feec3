"""What merchants may: plans, which shop has which, and how it pays."""

from sellflow.postgres.migrate import run_sql_file

revision = "0016_plans"
down_revision = "0015_compliance"


def upgrade() -> None:
    """Run the SQL file of this revision."""
    run_sql_file("0016_plans")
