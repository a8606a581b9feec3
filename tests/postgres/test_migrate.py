"""Bringing a database to this version: once, twice, by two at a time, and not at all."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from pydantic import SecretStr

from sellflow.errors import DatabaseUnavailableError, MigrationError
from sellflow.postgres.database import Database, Login, SessionConnection
from sellflow.postgres.migrate import migrate
from sellflow.postgres.opening import check_revision, prepare
from sellflow.postgres.revisions import MIGRATIONS, current_revision, newest_revision
from sellflow.roles import periodic_jobs, prepare_above
from sellflow.settings import Settings
from tests.postgres.databases import connected, empty_database


def with_settings(database: Database, **settings: object) -> Database:
    changed = database.settings.model_copy(update=settings)
    return Database(database.session_url, database.pooled_url, changed)


async def catalogue(owner: SessionConnection) -> list[str]:
    """Return everything that a migration makes, in words."""
    rows = await owner.fetch(
        """
        SELECT pg_describe_object(classid, objid, 0) AS what FROM pg_depend
        WHERE refclassid = 'pg_namespace'::regclass
          AND refobjid IN ('public'::regnamespace, 'pgmq'::regnamespace)
        UNION ALL SELECT format('policy %s on %s for %s: %s, %s', policyname, tablename, roles, qual, with_check)
        FROM pg_policies
        UNION ALL SELECT format('right %s on %s: %s', grantee, table_name, privilege_type)
        FROM information_schema.role_table_grants WHERE table_schema IN ('public', 'pgmq')
        ORDER BY 1
        """
    )
    return [row["what"] for row in rows]


def opens(password: str, verifier: str) -> bool:
    """Say whether a login with this verifier is entered by the password (RFC 5802, as Postgres stores it)."""
    mechanism, salting, keys = verifier.split("$")
    rounds, salt = salting.split(":")
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(salt), int(rounds))
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    stored = base64.b64encode(hashlib.sha256(client_key).digest()).decode()
    return mechanism == "SCRAM-SHA-256" and keys.split(":")[0] == stored


async def test_migrating_twice_changes_nothing(database: Database, owner: SessionConnection) -> None:
    before = await catalogue(owner)
    assert any("policy web_one_shop on orders" in what for what in before)
    keys = await owner.fetch("SELECT kid FROM signing_keys")
    migrate(database)
    assert await prepare(database, prepare_above(database.settings)) is False
    assert await catalogue(owner) == before
    assert await owner.fetch("SELECT kid FROM signing_keys") == keys


async def test_an_empty_database_is_brought_to_this_version(database: Database) -> None:
    async with empty_database(database) as fresh:
        assert await prepare(fresh, prepare_above(fresh.settings)) is True
        async with connected(fresh) as owner, connected(database) as template:
            assert await current_revision(owner) == newest_revision()
            assert await catalogue(owner) == await catalogue(template)


async def test_an_owner_without_superuser_migrates_and_prepares(database: Database, owner: SessionConnection) -> None:
    await owner.execute("DROP ROLE IF EXISTS plain_owner; CREATE ROLE plain_owner LOGIN NOSUPERUSER")
    async with empty_database(database, owner="plain_owner") as fresh:
        assert await prepare(fresh, prepare_above(fresh.settings)) is True
        await check_revision(fresh, Login.WEB)
        async with connected(fresh) as plain_owner:
            assert await plain_owner.fetchval("SELECT current_user") == "plain_owner"
            # Security is forced on the owner too: its own policy lets it see and write what it keeps.
            await plain_owner.execute("INSERT INTO apps (handle, client_id, client_secret) VALUES ('a', 'a', '\\x00')")
            await plain_owner.execute(
                "INSERT INTO shops (app_id, domain, currency) SELECT app_id, 'a.myshopify.com', 'USD' FROM apps"
            )
            assert await plain_owner.fetchval("SELECT count(*) FROM shops") == 1
            for job in periodic_jobs(fresh.settings):
                await job.run(plain_owner)
    await owner.execute("DROP ROLE plain_owner")


async def test_two_prepare_at_once(database: Database) -> None:
    async with empty_database(database) as fresh:

        def prepare_in_a_thread() -> bool:
            return asyncio.run(prepare(fresh, prepare_above(fresh.settings)))

        results = await asyncio.gather(*(asyncio.to_thread(prepare_in_a_thread) for _ in range(2)))
        assert True in results
        async with connected(fresh) as owner, connected(database) as template:
            assert await catalogue(owner) == await catalogue(template)
            assert await owner.fetchval("SELECT count(*) FROM signing_keys WHERE retired_at IS NULL") == 1


def test_the_newest_revision_is_alembics_head_and_every_revision_runs_its_own_file() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    scripts = ScriptDirectory.from_config(config)
    assert scripts.get_heads() == [newest_revision()]
    revisions = list(scripts.walk_revisions())
    files = {path.stem: path.read_text() for path in (MIGRATIONS / "versions").glob("[0-9]*.py")}
    assert {revision.revision for revision in revisions} == set(files)
    sql_files = {path.stem for path in (MIGRATIONS / "sql").glob("*.sql")}
    assert {name for name, source in files.items() if f'run_sql_file("{name}")' in source} == sql_files
    assert set(files) - sql_files == {"0001_pgmq"}, "pgmq's SQL comes from its own package"
    # A look at the file names says what Alembic would: each follows the one before it.
    assert [revision.revision for revision in reversed(revisions)] == sorted(files)


async def test_a_migration_that_must_wait_for_a_lock_gives_up(database: Database) -> None:
    async with empty_database(database) as fresh, connected(fresh) as owner:
        await owner.execute("CREATE TABLE schema_version (version_num varchar(32) PRIMARY KEY)")
        impatient = with_settings(fresh, migration_lock_timeout=0.05)
        async with owner.transaction():
            await owner.execute("LOCK TABLE schema_version")
            with pytest.raises(MigrationError, match=r"rolled back: .* lock timeout"):
                await asyncio.to_thread(migrate, impatient)
        assert await owner.fetchval("SELECT to_regclass('pgmq.meta')") is None
        migrate(fresh)
        assert await current_revision(owner) == newest_revision()


async def test_a_statement_that_takes_too_long_gives_up(database: Database) -> None:
    async with empty_database(database) as fresh:
        with pytest.raises(MigrationError, match="statement timeout"):
            migrate(with_settings(fresh, migration_statement_timeout=0.001))
        async with connected(fresh) as owner:
            assert await owner.fetchval("SELECT to_regclass('orders')") is None


async def test_a_revision_that_fails_is_rolled_back_whole(database: Database) -> None:
    async with empty_database(database) as fresh:
        async with connected(fresh) as owner:
            await owner.execute("CREATE TABLE refunds ()")
        with pytest.raises(MigrationError, match='relation "refunds" already exists'):
            migrate(fresh)
        async with connected(fresh) as owner:
            assert await current_revision(owner) == "0003_queue"
            assert await owner.fetchval("SELECT to_regclass('orders')") is None
            await owner.execute("DROP TABLE refunds")
        migrate(fresh)
        await check_revision(fresh, Login.OWNER)


async def test_a_database_of_a_newer_version_is_left_alone(database: Database, owner: SessionConnection) -> None:
    await owner.execute("UPDATE schema_version SET version_num = '9999_future'")
    with pytest.raises(MigrationError, match=r"9999_future.*newer version"):
        migrate(database)
    assert await current_revision(owner) == "9999_future"


async def test_a_role_refuses_to_serve_another_revision_and_names_both(
    database: Database, owner: SessionConnection
) -> None:
    for login in Login:
        await check_revision(database, login)
    await owner.execute("UPDATE schema_version SET version_num = '0003_queue'")
    for login in Login:
        with pytest.raises(MigrationError, match=f"is 0003_queue, this version needs {newest_revision()}"):
            await check_revision(database, login)


async def test_a_role_says_that_a_database_was_never_migrated(database: Database) -> None:
    async with empty_database(database) as fresh:
        with pytest.raises(MigrationError, match=r"is empty, this version needs .*`sellflow migrate`"):
            await check_revision(fresh, Login.WEB)


async def test_configured_passwords_are_set_and_the_others_left_as_they_were(
    database: Database, owner: SessionConnection
) -> None:
    async def hashes() -> dict[str, str | None]:
        rows = await owner.fetch("SELECT rolname, rolpassword FROM pg_authid WHERE rolname ~ '^sellflow_'")
        return {row["rolname"]: row["rolpassword"] for row in rows}

    before = await hashes()
    quoting = 'it\'s \\ a "password" %s'
    try:
        migrate(with_settings(database, database_web_password=SecretStr(quoting)))
        after = await hashes()
        assert after["sellflow_web"] != before["sellflow_web"]
        assert opens(quoting, after["sellflow_web"] or "")
        assert {**after, "sellflow_web": None} == {**before, "sellflow_web": None}
    finally:
        await owner.execute("ALTER ROLE sellflow_web PASSWORD NULL")


async def test_an_owner_who_may_not_set_passwords_is_told_so(database: Database, owner: SessionConnection) -> None:
    await owner.execute("DROP ROLE IF EXISTS powerless; CREATE ROLE powerless LOGIN NOSUPERUSER")
    async with empty_database(database, owner="powerless") as fresh:
        with pytest.raises(MigrationError, match="password of sellflow_web could not be set") as caught:
            migrate(with_settings(fresh, database_web_password=SecretStr("a-planted-secret")))
    assert "a-planted-secret" not in str(caught.value)
    # The server writes statements that fail into its log: they hold a hash, never the password.
    server_log = (Path(await owner.fetchval("SHOW data_directory")) / "server.log").read_text()
    assert "ALTER ROLE" in server_log
    assert "a-planted-secret" not in server_log
    await owner.execute("DROP ROLE powerless")


def test_a_server_that_is_not_there_is_unavailable(settings: Settings) -> None:
    nowhere = "postgresql:///sellflow?host=/nonexistent"
    with pytest.raises(DatabaseUnavailableError, match="cannot be reached"):
        migrate(Database(nowhere, nowhere, settings))
