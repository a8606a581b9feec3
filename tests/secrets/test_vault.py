"""The vault: what each login may seal and open, what happens in races, and what a wrong key does not destroy."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import asyncpg
import pytest

from sellflow.postgres.database import Connection, Database, Login, Pool, SessionConnection
from sellflow.postgres.transactions import batch_transaction, shop_transaction
from sellflow.secrets import Vault, build_vault, forget_shop, store
from sellflow.secrets import vault as vault_module
from sellflow.secrets.errors import CannotOpenError, DataKeyMissingError, MasterKeyMissingError, NoMasterKeyError
from sellflow.secrets.key_file import LocalKeys
from sellflow.secrets.setup import check_keys, ensure_keys
from tests.conftest import Tenant
from tests.secrets.racing import race

TOKEN = "shpat_planted"


@pytest.fixture
def two_logins(web_pool: Pool, worker_pool: Pool) -> tuple[Pool, Pool]:
    return web_pool, worker_pool


async def test_web_worker_and_owner_open_what_any_of_them_sealed(
    database: Database, owner: SessionConnection, web_pool: Pool, worker_pool: Pool, tenant: Tenant
) -> None:
    shop = tenant.shop_id

    async def seal(connection: Connection) -> bytes:
        return await build_vault(database.settings).seal(connection, TOKEN, shop_id=shop, purpose="token")

    async def open_sealed(connection: Connection) -> None:
        vault = build_vault(database.settings)
        for value in sealed:
            assert TOKEN.encode() not in value
            for _ in range(2):  # with its key unwrapped, and with its key in memory
                assert await vault.open(connection, value, shop_id=shop, purpose="token") == TOKEN

    async with shop_transaction(web_pool, shop) as web:
        sealed = [await seal(web)]
    async with worker_pool.acquire() as held, batch_transaction(held, [shop]) as worker:
        sealed.append(await seal(worker))
    sealed.append(await seal(owner))

    async with shop_transaction(web_pool, shop) as web:
        await open_sealed(web)
    async with worker_pool.acquire() as held, batch_transaction(held, [shop]) as worker:
        await open_sealed(worker)
    await open_sealed(owner)
    assert await owner.fetchval("SELECT count(*) FROM data_keys WHERE shop_id = $1", shop) == 1


async def test_the_installation_s_own_is_opened_by_web_and_worker_and_its_key_made_by_the_owner_alone(
    owner: SessionConnection, vault: Vault, web_pool: Pool, worker_pool: Pool
) -> None:
    sealed = await vault.seal(owner, TOKEN, shop_id=None, purpose="app/acme/secret")
    for pool in (web_pool, worker_pool):
        assert await vault.open(pool, sealed, shop_id=None, purpose="app/acme/secret") == TOKEN
        again = await vault.seal(pool, TOKEN, shop_id=None, purpose="app/acme/secret")
        assert await vault.open(owner, again, shop_id=None, purpose="app/acme/secret") == TOKEN
    await owner.execute("DELETE FROM data_keys")
    for pool in (web_pool, worker_pool):
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
            await vault.seal(pool, TOKEN, shop_id=None, purpose="app/acme/secret")


async def test_a_login_opens_nothing_of_another_shop(
    owner: SessionConnection, vault: Vault, two_logins: tuple[Pool, Pool], tenant: Tenant, other_tenant: Tenant
) -> None:
    web_pool, worker_pool = two_logins
    sealed = await vault.seal(owner, TOKEN, shop_id=other_tenant.shop_id, purpose="token")

    async def attack(connection: Connection) -> None:
        with pytest.raises(DataKeyMissingError, match="belongs to another"):
            await Vault(vault._providers).open(connection, sealed, shop_id=tenant.shop_id, purpose="token")
        # One that has the key in memory does not open it for another shop either.
        with pytest.raises(CannotOpenError, match="another shop"):
            await vault.open(connection, sealed, shop_id=tenant.shop_id, purpose="token")

    async with shop_transaction(web_pool, tenant.shop_id) as web:
        await attack(web)
    async with worker_pool.acquire() as held, batch_transaction(held, [tenant.shop_id]) as worker:
        await attack(worker)


async def test_a_login_makes_no_data_key_of_another_shop(
    owner: SessionConnection, vault: Vault, two_logins: tuple[Pool, Pool], tenant: Tenant, other_tenant: Tenant
) -> None:
    web_pool, worker_pool = two_logins
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        async with shop_transaction(web_pool, tenant.shop_id) as web:
            await vault.seal(web, TOKEN, shop_id=other_tenant.shop_id, purpose="token")
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        async with worker_pool.acquire() as held, batch_transaction(held, [tenant.shop_id]) as worker:
            await vault.seal(worker, TOKEN, shop_id=other_tenant.shop_id, purpose="token")
    assert await owner.fetchval("SELECT count(*) FROM data_keys WHERE shop_id IS NOT NULL") == 0


async def test_neither_web_nor_worker_changes_or_removes_a_key_and_ingest_sees_none(
    web_pool: Pool, worker_pool: Pool, ingest_pool: Pool, tenant: Tenant
) -> None:
    for statement in (
        "UPDATE data_keys SET wrapped = ''",
        "DELETE FROM data_keys",
        "UPDATE master_keys SET is_current = false",
        "DELETE FROM master_keys",
        "INSERT INTO master_keys (provider, master_key_id, is_current) VALUES ('local', 'mine', false)",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with shop_transaction(web_pool, tenant.shop_id) as web:
                await web.execute(statement)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with worker_pool.acquire() as held, batch_transaction(held, [tenant.shop_id]) as worker:
                await worker.execute(statement)
    for table in ("data_keys", "master_keys"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await ingest_pool.execute(f"SELECT FROM {table}")


SEAL = """
import asyncio, os
from sellflow.postgres.database import Database, Login
from sellflow.postgres.transactions import shop_transaction
from sellflow.secrets import build_vault
from sellflow.settings import load_settings

def act(start, url, shop):
    return asyncio.run(seal(start, url, int(shop)))

async def seal(start, url, shop):
    settings = load_settings()
    pool = await Database(url, url, settings).pool(Login.WEB, purpose="race", size=1)
    await pool.fetchval("SELECT 1")
    start.wait()
    async with shop_transaction(pool, shop) as connection:
        sealed = await build_vault(settings).seal(connection, f"secret of {os.getpid()}", shop_id=shop, purpose="token")
    await pool.close()
    return os.getpid(), sealed.hex()
"""


async def test_of_eight_processes_that_make_a_shop_s_first_key_at_once_one_does_and_all_seals_open(
    database: Database, owner: SessionConnection, vault: Vault, tenant: Tenant
) -> None:
    env = {"SELLFLOW_ENVIRONMENT": "test", "SELLFLOW_MASTER_KEY_FILE": str(database.settings.local_master_keys)}
    answers = await asyncio.to_thread(race, SEAL, database.session_url, str(tenant.shop_id), env=env)
    assert await owner.fetchval("SELECT count(*) FROM data_keys WHERE shop_id = $1", tenant.shop_id) == 1
    for pid, sealed in answers:
        opened = await vault.open(owner, bytes.fromhex(sealed), shop_id=tenant.shop_id, purpose="token")
        assert opened == f"secret of {pid}"


async def test_a_first_key_that_was_rolled_back_is_not_used_again(
    owner: SessionConnection, vault: Vault, tenant: Tenant, database: Database
) -> None:
    transaction = owner.transaction()
    await transaction.start()
    await vault.seal(owner, TOKEN, shop_id=tenant.shop_id, purpose="token")
    await transaction.rollback()
    sealed = await vault.seal(owner, TOKEN, shop_id=tenant.shop_id, purpose="token")
    fresh = build_vault(database.settings)
    assert await fresh.open(owner, sealed, shop_id=tenant.shop_id, purpose="token") == TOKEN


async def test_a_shop_that_was_forgotten_is_sealed_for_anew_and_its_old_secrets_never_open_again(
    owner: SessionConnection, vault: Vault, tenant: Tenant, other_tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = await vault.seal(owner, TOKEN, shop_id=tenant.shop_id, purpose="token")
    others = await vault.seal(owner, TOKEN, shop_id=other_tenant.shop_id, purpose="token")
    assert await forget_shop(owner, tenant.shop_id) is True
    assert await forget_shop(owner, tenant.shop_id) is False
    new = await vault.seal(owner, "fresh", shop_id=tenant.shop_id, purpose="token")
    assert await vault.open(owner, new, shop_id=tenant.shop_id, purpose="token") == "fresh"
    monkeypatch.setattr(vault_module, "MAX_AGE", 0.0)  # a minute later
    with pytest.raises(DataKeyMissingError, match="erased with its shop"):
        await vault.open(owner, old, shop_id=tenant.shop_id, purpose="token")
    assert await vault.open(owner, others, shop_id=other_tenant.shop_id, purpose="token") == TOKEN


async def test_a_key_in_memory_is_used_without_asking_the_database(
    database: Database, owner: SessionConnection, vault: Vault, tenant: Tenant
) -> None:
    sealed = await vault.seal(owner, TOKEN, shop_id=tenant.shop_id, purpose="token")
    closed = await database.connect(Login.OWNER, purpose="test")
    await closed.close()
    assert await vault.open(closed, sealed, shop_id=tenant.shop_id, purpose="token") == TOKEN


async def test_of_many_keys_the_one_used_longest_ago_makes_way(
    owner: SessionConnection, vault: Vault, tenant: Tenant, other_tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vault_module, "MOST_KEYS", 1)
    for _ in range(2):
        for each in (tenant, other_tenant):
            sealed = await vault.seal(owner, TOKEN, shop_id=each.shop_id, purpose="token")
            assert await vault.open(owner, sealed, shop_id=each.shop_id, purpose="token") == TOKEN
    assert len(vault._held) == 1


async def test_a_missing_key_file_is_named_and_no_new_key_is_made_over_what_is_sealed(
    database: Database, owner: SessionConnection, tenant: Tenant
) -> None:
    sealed = await build_vault(database.settings).seal(owner, TOKEN, shop_id=tenant.shop_id, purpose="token")
    keys = await owner.fetch("SELECT data_key_id, wrapped FROM data_keys ORDER BY 1")
    (key_id,) = [row["master_key_id"] for row in await owner.fetch("SELECT master_key_id FROM master_keys")]
    file = database.settings.local_master_keys
    away = file.rename(file.with_name("away"))

    vault = build_vault(database.settings)
    for attempt in (
        vault.open(owner, sealed, shop_id=tenant.shop_id, purpose="token"),
        vault.seal(owner, TOKEN, shop_id=None, purpose="token"),
        ensure_keys(owner, vault, database.settings),
        check_keys(database, Login.WEB, vault),
        check_keys(database, Login.WORKER, vault),
    ):
        with pytest.raises(MasterKeyMissingError, match=rf"{key_id}.*{file}.*SELLFLOW_MASTER_KEY_FILE.*Nothing was"):
            await attempt
    assert not file.exists()
    assert await owner.fetch("SELECT data_key_id, wrapped FROM data_keys ORDER BY 1") == keys

    away.rename(file)
    assert await vault.open(owner, sealed, shop_id=tenant.shop_id, purpose="token") == TOKEN


async def test_another_installation_s_key_file_is_refused_by_name(database: Database, owner: SessionConnection) -> None:
    file = database.settings.local_master_keys
    file.unlink()
    other = await LocalKeys(file).make(known=())
    content = file.read_bytes()
    with pytest.raises(MasterKeyMissingError, match=f"does not have .it has {other.master_key_id}"):
        await ensure_keys(owner, build_vault(database.settings), database.settings)
    assert file.read_bytes() == content


async def test_an_installation_that_was_never_migrated_says_so(database: Database, owner: SessionConnection) -> None:
    await owner.execute("DELETE FROM data_keys; DELETE FROM master_keys")
    vault = build_vault(database.settings)
    for attempt in (
        vault.seal(owner, TOKEN, shop_id=None, purpose="token"),
        check_keys(database, Login.WEB, vault),
    ):
        with pytest.raises(NoMasterKeyError, match="sellflow migrate"):
            await attempt
    await ensure_keys(owner, vault, database.settings)
    await check_keys(database, Login.WEB, vault)


async def test_a_wrapped_key_that_was_moved_to_another_shop_opens_nothing(
    database: Database, owner: SessionConnection, vault: Vault, tenant: Tenant, other_tenant: Tenant
) -> None:
    sealed = await vault.seal(owner, TOKEN, shop_id=tenant.shop_id, purpose="token")
    await owner.execute("UPDATE data_keys SET shop_id = $1 WHERE shop_id = $2", other_tenant.shop_id, tenant.shop_id)
    with pytest.raises(CannotOpenError, match="was changed"):
        await build_vault(database.settings).open(owner, sealed, shop_id=other_tenant.shop_id, purpose="token")


async def test_a_data_key_is_never_wrapped_by_a_master_key_that_is_no_longer_current(
    owner: SessionConnection, tenant: Tenant
) -> None:
    stale = store.DataKeyRow(uuid4(), tenant.shop_id, "local", "retired", b"wrapped")
    await owner.execute(
        "INSERT INTO master_keys (provider, master_key_id, is_current) VALUES ('local', 'retired', false)"
    )
    assert await store.add_data_key(owner, stale) is False
    assert await store.data_key_of(owner, tenant.shop_id) is None
