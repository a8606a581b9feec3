"""The apps that ingest knows: what becomes of them when their secrets cannot be opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from sellflow.errors import DatabaseUnavailableError
from sellflow.postgres.database import Database, Pool, SessionConnection
from sellflow.secrets import Vault, build_vault
from sellflow.shops import directory
from sellflow.shops.directory import AppDirectory
from sellflow.shops.store import add_app
from tests.conftest import SECRET, Tenant


async def test_without_its_master_key_nothing_is_promised_and_with_it_all_is_well(
    database: Database, web_pool: Pool, tenant: Tenant, tmp_path: Path
) -> None:
    file = tmp_path / "master.key"
    settings = database.settings.model_copy(update={"master_key_file": str(file)})
    apps = AppDirectory(web_pool, build_vault(settings))
    with pytest.raises(DatabaseUnavailableError, match="apps could not be read"):
        await apps.find("acme")
    file.write_bytes(database.settings.local_master_keys.read_bytes())
    file.chmod(0o600)
    found = await apps.find("acme")
    assert found is not None
    assert found.secrets == (SECRET,)


async def test_what_is_known_stays_known_while_the_key_file_is_away(
    database: Database, web_pool: Pool, tenant: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "master.key"
    file.write_bytes(database.settings.local_master_keys.read_bytes())
    file.chmod(0o600)
    settings = database.settings.model_copy(update={"master_key_file": str(file)})
    apps = AppDirectory(web_pool, build_vault(settings))
    assert await apps.find("acme") is not None
    file.unlink()
    monkeypatch.setattr(directory, "MAX_AGE", 0.0)
    assert await apps.find("acme") is not None


async def test_an_app_whose_secret_was_damaged_stands_in_no_other_s_way(
    owner: SessionConnection, vault: Vault, web_pool: Pool, tenant: Tenant
) -> None:
    await add_app(owner, vault, handle="damaged", client_id="damaged", client_secret="x")
    await owner.execute("UPDATE apps SET client_secret = client_secret || '!'::bytea WHERE handle = 'damaged'")
    apps = AppDirectory(web_pool, vault)
    assert await apps.find("acme") is not None
    assert await apps.find("damaged") is None


async def test_a_secret_that_is_moved_to_another_app_does_not_open(
    owner: SessionConnection, vault: Vault, web_pool: Pool, tenant: Tenant
) -> None:
    await add_app(owner, vault, handle="mine", client_id="mine", client_secret="known to me")
    await owner.execute(
        "UPDATE apps SET client_secret = (SELECT client_secret FROM apps WHERE handle = 'mine') WHERE handle = 'acme'"
    )
    assert await AppDirectory(web_pool, vault).find("acme") is None
