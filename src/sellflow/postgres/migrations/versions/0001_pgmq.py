"""Install pgmq's SQL from its own package, unless the server carries it as an extension."""

from pgmq.install import get_embedded_install_sql

from sellflow.postgres.migrate import connection, run_sql

revision = "0001_pgmq"
down_revision = None


def upgrade() -> None:
    """Install pgmq where it is missing; an installation that is already there is left alone."""
    if connection().exec_driver_sql("SELECT to_regclass('pgmq.meta') IS NULL").scalar_one():
        run_sql(get_embedded_install_sql())
