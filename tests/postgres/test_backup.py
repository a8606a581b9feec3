"""Backups: what was written comes back whole, and nothing is ever overwritten."""

from __future__ import annotations

import asyncio
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from sellflow.errors import ConfigurationError, DatabaseUnavailableError
from sellflow.postgres.backup import BackupError, read_backup, write_backup
from sellflow.postgres.database import Database, Login, SessionConnection
from sellflow.postgres.opening import check_revision, prepare
from sellflow.postgres.transactions import shop_transaction
from sellflow.roles import prepare_above
from tests.conftest import Tenant, make_tenant
from tests.postgres.databases import connected, empty_database
from tests.postgres.filling import fill

_TABLES = """
    SELECT c.oid::regclass::text AS name, relkind = 'S' AS is_sequence
    FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
    WHERE nspname IN ('public', 'pgmq') AND relkind IN ('r', 'S') ORDER BY 1
"""
_RULES = """
    SELECT format('column %s.%s %s %s', attrelid::regclass, attname, atttypid::regtype, attacl) AS rule
    FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
    WHERE relnamespace IN ('public'::regnamespace, 'pgmq'::regnamespace) AND relkind IN ('r', 'p') AND attnum > 0
      AND NOT attisdropped
    UNION ALL
    SELECT format('table %s %s %s %s', oid::regclass, relrowsecurity, relforcerowsecurity,
                  (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(relacl) a))
    FROM pg_class WHERE relnamespace IN ('public'::regnamespace, 'pgmq'::regnamespace)
    UNION ALL
    SELECT format('policy %s %s %s %s %s %s', tablename, policyname, roles, cmd, qual, with_check) FROM pg_policies
    UNION ALL
    SELECT format('function %s %s %s', oid::regprocedure, prosecdef,
                  (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(proacl) a))
    FROM pg_proc WHERE pronamespace IN ('public'::regnamespace, 'pgmq'::regnamespace)
    UNION ALL
    SELECT format('trigger %s', pg_get_triggerdef(oid)) FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL
    SELECT format('default %s %s %s %s', defaclrole::regrole, defaclnamespace::regnamespace, defaclobjtype, defaclacl)
    FROM pg_default_acl
    UNION ALL
    SELECT format('constraint %s %s', conrelid::regclass, pg_get_constraintdef(oid)) FROM pg_constraint
    WHERE connamespace IN ('public'::regnamespace, 'pgmq'::regnamespace)
    ORDER BY 1
"""


async def contents(owner: SessionConnection) -> dict[str, list[str]]:
    """Return every row of every table, and where every sequence stands."""
    found: dict[str, list[str]] = {}
    for name, is_sequence in await owner.fetch(_TABLES):
        what = "last_value, is_called" if is_sequence else "t::text"
        found[name] = sorted(str(tuple(row)) for row in await owner.fetch(f"SELECT {what} FROM {name} t"))
    return found


async def rules(owner: SessionConnection) -> list[str]:
    """Return columns, rights, policies, triggers and constraints in words."""
    return [row["rule"] for row in await owner.fetch(_RULES)]


def as_owner(database: Database, name: str) -> Database:
    return replace(database, settings=database.settings.model_copy(update={"database_owner": name}))


def break_off(file: Path) -> None:
    """Leave the end of a file away."""
    os.truncate(file, file.stat().st_size * 9 // 10)


@pytest.fixture
async def backup(
    database: Database, owner: SessionConnection, tenant: Tenant, other_tenant: Tenant, tmp_path: Path
) -> Path:
    """Write a backup of a database with rows of two shops, and a table of a service in a schema of its own."""
    await fill(database, tenant, other_tenant)
    await owner.execute(
        """
        CREATE SCHEMA gifts;
        CREATE TABLE gifts.welcome_gifts (shop_id bigint);
        CALL protect_tenant_table('gifts.welcome_gifts');
        """
    )
    file = tmp_path / "backup"
    write_backup(database, file)
    return file


async def test_a_backup_brings_back_rows_rights_and_policies(
    database: Database, owner: SessionConnection, backup: Path
) -> None:
    async with empty_database(database) as fresh:
        read_backup(fresh, backup)
        await check_revision(fresh, Login.WEB)
        async with connected(fresh) as restored:
            before, after = await contents(owner), await contents(restored)
            assert len(before["entries"]) > 2
            assert after == before
            assert await rules(restored) == await rules(owner)


async def test_a_restored_database_goes_on_where_it_stopped(
    database: Database, backup: Path, tenant: Tenant, other_tenant: Tenant
) -> None:
    async with empty_database(database) as fresh:
        read_backup(fresh, backup)
        assert await prepare(fresh, prepare_above(fresh.settings)) is False
        async with connected(fresh) as owner:
            third = await make_tenant(owner, "third", app=tenant.app)
        assert third.shop_id > other_tenant.shop_id
        await fill(fresh, third)
        async with (
            await fresh.pool(Login.WEB, purpose="test", size=1) as web,
            shop_transaction(web, third.shop_id) as connection,
        ):
            rows = await connection.fetch("SELECT shop_id FROM entries")
            assert {row["shop_id"] for row in rows} == {third.shop_id}


async def test_a_backup_is_restored_under_an_owner_of_another_name(
    database: Database, owner: SessionConnection, backup: Path, tenant: Tenant
) -> None:
    await owner.execute("DROP ROLE IF EXISTS postgres_heir; CREATE ROLE postgres_heir LOGIN NOSUPERUSER")
    async with empty_database(database, owner="postgres_heir") as fresh:
        read_backup(fresh, backup)
        async with connected(fresh) as heir:
            assert await heir.fetchval("SELECT current_user") == "postgres_heir"
            # Security is forced on owners too: it is the new one's policy now.
            assert await contents(heir) == await contents(owner)
            assert await rules(heir) == [rule.replace("postgres", "postgres_heir") for rule in await rules(owner)]
            await prepare(fresh, prepare_above(fresh.settings))
    await owner.execute("DROP ROLE postgres_heir")


def test_a_backup_may_be_read_by_its_writer_alone(backup: Path) -> None:
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert [path.name for path in backup.parent.iterdir()] == [backup.name]


async def test_a_backup_is_private_whatever_the_umask(database: Database, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        size = write_backup(database, tmp_path / "backup")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "backup").stat().st_mode) == 0o600
    assert size == (tmp_path / "backup").stat().st_size > 0


async def test_a_file_that_exists_is_not_overwritten(database: Database, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    file.write_text("precious")
    with pytest.raises(ConfigurationError, match="exists already"):
        write_backup(database, file)
    assert file.read_text() == "precious"


def test_a_folder_that_does_not_exist_is_named(database: Database, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nowhere/backup cannot be written"):
        write_backup(database, tmp_path / "nowhere" / "backup")


def test_a_backup_that_fails_leaves_no_file(database: Database, tmp_path: Path) -> None:
    powerless = as_owner(database, Login.WEB.value)
    with pytest.raises(BackupError, match=r"pg_dump failed:\n.*permission denied"):
        write_backup(powerless, tmp_path / "backup")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_is_named(database: Database, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"there is no file {tmp_path / 'backup'}"):
        read_backup(database, tmp_path / "backup")


async def test_a_database_that_holds_anything_is_left_alone(
    database: Database, owner: SessionConnection, backup: Path
) -> None:
    before = await contents(owner)
    with pytest.raises(ConfigurationError, match=r"the database holds \d+ tables"):
        read_backup(database, backup)
    assert await contents(owner) == before


async def test_a_file_that_is_no_backup_leaves_the_database_empty(database: Database, tmp_path: Path) -> None:
    (tmp_path / "backup").write_text("not a backup")
    async with empty_database(database) as fresh:
        with pytest.raises(BackupError, match="pg_restore failed"):
            read_backup(fresh, tmp_path / "backup")
        async with connected(fresh) as owner:
            assert await contents(owner) == {}


async def test_a_backup_that_breaks_off_leaves_the_database_empty(database: Database, backup: Path) -> None:
    break_off(backup)
    async with empty_database(database) as fresh:
        with pytest.raises(BackupError, match="pg_restore failed"):
            await asyncio.to_thread(read_backup, fresh, backup)
        async with connected(fresh) as owner:
            assert await contents(owner) == {}


def test_a_server_that_is_not_there_is_unavailable(database: Database, tmp_path: Path) -> None:
    nowhere = replace(database, session_url="postgresql:///sellflow?host=/nonexistent")
    with pytest.raises(DatabaseUnavailableError, match="cannot be reached"):
        write_backup(nowhere, tmp_path / "backup")
    assert list(tmp_path.iterdir()) == []
