"""Rotations: while everything runs, killed anywhere, between providers, and without ever losing a key in use."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from dataclasses import dataclass, field

import boto3
import pytest

from sellflow.errors import NotFoundError
from sellflow.postgres.database import Database, Pool, SessionConnection
from sellflow.postgres.transactions import shop_transaction
from sellflow.secrets import Vault, build_vault, rotation
from sellflow.secrets.envelope import new_data_key
from sellflow.secrets.errors import MasterKeyMissingError
from sellflow.secrets.rotation import KeyInUseError, Rotated, RotationRunningError
from sellflow.settings import Settings
from tests.conftest import Tenant, make_tenant
from tests.edge.serving import with_settings
from tests.postgres.databases import connected

SHOPS = 12


@dataclass
class Installation:
    """Shops with a sealed secret each, and the installation's own."""

    database: Database
    owner: SessionConnection
    shops: list[int]
    sealed: dict[int | None, bytes] = field(default_factory=dict)

    async def seal(self, vault: Vault, shop_id: int | None) -> None:
        self.sealed[shop_id] = await vault.seal(self.owner, f"of {shop_id}", shop_id=shop_id, purpose="token")

    async def assert_all_opens(self, vault: Vault | None = None) -> None:
        vault = vault or build_vault(self.database.settings)
        for shop_id, value in self.sealed.items():
            assert await vault.open(self.owner, value, shop_id=shop_id, purpose="token") == f"of {shop_id}"

    async def masters(self) -> list[str]:
        """The master keys that wrap something."""
        rows = await self.owner.fetch("SELECT DISTINCT master_key_id FROM data_keys")
        return [row["master_key_id"] for row in rows]

    async def current(self) -> str:
        return str(await self.owner.fetchval("SELECT master_key_id FROM master_keys WHERE is_current"))

    async def rotate(self, settings: Settings | None = None) -> Rotated:
        return await rotation.rotate(self.owner, settings or self.database.settings, lambda *_: None)


@pytest.fixture
async def installation(database: Database, owner: SessionConnection, tenant: Tenant) -> Installation:
    names = [f"shop-{number}" for number in range(SHOPS)]
    shops = [(await make_tenant(owner, name, app=tenant.app)).shop_id for name in names]
    made, vault = Installation(database, owner, shops), build_vault(database.settings)
    for shop_id in [*shops, None]:
        await made.seal(vault, shop_id)
    return made


async def test_everything_is_wrapped_by_a_new_key_and_the_old_one_can_be_dropped(installation: Installation) -> None:
    running, old = build_vault(installation.database.settings), await installation.current()
    await installation.assert_all_opens(running)
    before = dict(installation.sealed)
    steps: list[tuple[int, int]] = []
    rotated = await rotation.rotate(
        installation.owner, installation.database.settings, lambda done, total: steps.append((done, total))
    )
    assert (rotated.is_new, rotated.rewrapped, rotated.droppable) == (True, SHOPS + 1, [old])
    assert (steps[0], steps[-1]) == ((0, SHOPS + 1), (SHOPS + 1, SHOPS + 1))
    assert await installation.masters() == [await installation.current()] != [old]
    await rotation.drop(installation.owner, installation.database.settings, old)
    assert old not in installation.database.settings.local_master_keys.read_text()
    assert installation.sealed == before, "what is sealed stays as it is"
    await installation.assert_all_opens(running)
    await installation.assert_all_opens()
    # What a process that ran through it all seals now opens everywhere.
    await installation.seal(running, installation.shops[0])
    await installation.assert_all_opens()


async def test_a_key_that_is_in_use_is_not_dropped(installation: Installation) -> None:
    settings, old = installation.database.settings, await installation.current()
    with pytest.raises(KeyInUseError, match=f"{old} .local. is the current master key"):
        await rotation.drop(installation.owner, settings, old)
    with pytest.raises(NotFoundError, match=f"no master key 'nonsense' .known: {old}"):
        await rotation.drop(installation.owner, settings, "nonsense")
    kept = await installation.owner.fetchrow("SELECT * FROM data_keys WHERE shop_id = $1", installation.shops[0])
    assert kept is not None
    await installation.rotate()
    await installation.owner.execute(
        "UPDATE data_keys SET master_key_id = $2, wrapped = $3 WHERE shop_id = $1",
        kept["shop_id"],
        old,
        kept["wrapped"],
    )
    with pytest.raises(KeyInUseError, match="still wrapped"):
        await rotation.drop(installation.owner, settings, old)
    await installation.assert_all_opens()
    rotated = await installation.rotate()
    assert (rotated.is_new, rotated.rewrapped) == (False, 1), "what was left over needs no third key"
    await rotation.drop(installation.owner, settings, old)
    await installation.assert_all_opens()


async def test_a_drop_waits_for_a_key_that_is_about_to_be_committed(
    installation: Installation, database: Database, web_pool: Pool
) -> None:
    settings, old = database.settings, await installation.current()
    fresh = await make_tenant(installation.owner, "fresh")
    async with shop_transaction(web_pool, fresh.shop_id) as web:
        installation.sealed[fresh.shop_id] = await build_vault(settings).seal(
            web, f"of {fresh.shop_id}", shop_id=fresh.shop_id, purpose="token"
        )
        # Uncommitted, and seen by nobody: a rotation waits for it, and so would dropping its key.
        rotating = asyncio.create_task(installation.rotate())
        async with connected(database) as onlooker:
            await _until_waiting(onlooker)
        assert not rotating.done()
    rotated = await rotating
    assert rotated.rewrapped == SHOPS + 2
    await rotation.drop(installation.owner, settings, old)
    await installation.assert_all_opens()


async def _until_waiting(onlooker: SessionConnection) -> None:
    """Look until another session waits for a lock."""
    async with asyncio.timeout(20):
        while not await onlooker.fetchval(  # noqa: ASYNC110 - a session of the server sets no event
            "SELECT true FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        ):
            await asyncio.sleep(0.01)


async def test_secrets_are_sealed_and_opened_by_others_all_through_a_rotation(
    installation: Installation, database: Database, tenant: Tenant, web_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotation, "BATCH", 1)
    rounds = 0
    stop = asyncio.Event()

    async def traffic(number: int) -> None:
        nonlocal rounds
        while not stop.is_set():
            vault = build_vault(database.settings)  # a process that has just started
            async with connected(database) as owner:
                shop = (await make_tenant(owner, f"new-{number}-{rounds}", app=tenant.app)).shop_id
            for shop_id in (shop, installation.shops[rounds % SHOPS]):
                async with shop_transaction(web_pool, shop_id) as web:
                    sealed = await vault.seal(web, f"of {shop_id}", shop_id=shop_id, purpose="token")
                    assert await vault.open(web, sealed, shop_id=shop_id, purpose="token") == f"of {shop_id}"
                    installation.sealed[shop_id] = sealed
            rounds += 1

    tasks = [asyncio.create_task(traffic(number)) for number in range(2)]
    for _ in range(3):
        rotated = await installation.rotate()
        for key in rotated.droppable:
            await rotation.drop(installation.owner, database.settings, key)
    stop.set()
    await asyncio.gather(*tasks)
    assert rounds > 3
    await installation.rotate()
    assert await installation.masters() == [await installation.current()]
    await installation.assert_all_opens()


ROTATE = """
import asyncio, os, sys
from sellflow.postgres.database import Database, Login
from sellflow.secrets import key_file, rotation, store
from sellflow.settings import load_settings

rotation.BATCH = 5
url, where, left = sys.argv[1], sys.argv[2], int(sys.argv[3])

def dying(function):
    async def call(*arguments, **named):
        global left
        result = await function(*arguments, **named)
        left -= 1
        if left == 0:
            os._exit(9)
        return result
    return call

owner = {"make": key_file.LocalKeys, "drop": key_file.LocalKeys}.get(where, store)
setattr(owner, where, dying(getattr(owner, where)))

async def main():
    settings = load_settings()
    connection = await Database(url, url, settings).connect(Login.OWNER, purpose="rotation")
    rotated = await rotation.rotate(connection, settings, lambda *_: None)
    for key in rotated.droppable:
        await rotation.drop(connection, settings, key)
    await connection.close()

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("where", "count"),
    [("make", 1), ("make_current", 1), ("rewrap", 1), ("rewrap", 2), ("delete_master_key", 1), ("drop", 1)],
)
async def test_a_rotation_that_is_killed_is_finished_by_the_next(
    installation: Installation, where: str, count: int
) -> None:
    settings = installation.database.settings
    environment = os.environ | {
        "SELLFLOW_ENVIRONMENT": "test",
        "SELLFLOW_DATABASE_OWNER": settings.database_owner,
        "SELLFLOW_MASTER_KEY_FILE": str(settings.local_master_keys),
    }
    command = [sys.executable, "-c", ROTATE, installation.database.session_url, where, str(count)]
    killed = await asyncio.to_thread(subprocess.run, command, env=environment, timeout=60, check=False)
    assert killed.returncode == 9
    await installation.assert_all_opens()
    finished = where in ("delete_master_key", "drop")  # what was killed is the dropping of the former key
    rotated = await installation.rotate()
    assert rotated.is_new == (where == "make" or finished)
    for key in rotated.droppable:
        await rotation.drop(installation.owner, settings, key)
    await installation.assert_all_opens()
    assert await installation.masters() == [await installation.current()]
    keys = [line for line in settings.local_master_keys.read_text().splitlines() if not line.startswith("#")]
    assert [line.split()[0] for line in keys] == [await installation.current()], "no key is left over"


async def test_two_do_not_rotate_at_once(installation: Installation, database: Database) -> None:
    async with connected(database) as other:
        await other.execute("SELECT pg_advisory_lock(hashtext('sellflow.secrets'))")
        with pytest.raises(RotationRunningError, match="try again"):
            await installation.rotate()
        with pytest.raises(RotationRunningError):
            await rotation.drop(installation.owner, database.settings, await installation.current())
    assert (await installation.rotate()).is_new


async def test_a_damaged_data_key_stands_in_no_other_s_way(installation: Installation) -> None:
    old = await installation.current()
    (broken,) = await installation.owner.fetch(
        "UPDATE data_keys SET wrapped = $2 WHERE shop_id = $1 RETURNING data_key_id",
        installation.shops[3],
        new_data_key(),
    )
    rotated = await installation.rotate()
    assert (rotated.damaged, rotated.rewrapped, rotated.droppable) == ([broken["data_key_id"]], SHOPS, [])
    del installation.sealed[installation.shops[3]]
    await installation.assert_all_opens()
    with pytest.raises(KeyInUseError):
        await rotation.drop(installation.owner, installation.database.settings, old)


async def test_without_the_old_key_nothing_is_rotated_and_nothing_is_lost(installation: Installation) -> None:
    file = installation.database.settings.local_master_keys
    content = file.read_bytes()
    rows = await installation.owner.fetch("SELECT * FROM data_keys ORDER BY data_key_id")
    file.unlink()
    with pytest.raises(MasterKeyMissingError, match="SELLFLOW_MASTER_KEY_FILE"):
        await installation.rotate()
    assert await installation.owner.fetch("SELECT * FROM data_keys ORDER BY data_key_id") == rows
    assert not file.exists()
    file.write_bytes(content)
    file.chmod(0o600)
    await installation.rotate()
    await installation.assert_all_opens()


@pytest.fixture
def with_kms(aws: str, installation: Installation, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    arn = boto3.session.Session().client("kms").create_key()["KeyMetadata"]["Arn"]
    settings = {"master_key_provider": "aws-kms", "master_key_kms_id": arn}
    return with_settings(installation.database, **settings).settings


async def test_keys_move_from_the_file_to_kms_and_back(installation: Installation, with_kms: Settings) -> None:
    running, local = build_vault(installation.database.settings), await installation.current()
    await installation.assert_all_opens(running)
    rotated = await installation.rotate(with_kms)
    assert rotated.current.provider == "aws-kms"
    await rotation.drop(installation.owner, with_kms, local)
    # A process that still has the settings of before goes on, and takes new keys under KMS.
    fresh = (await make_tenant(installation.owner, "fresh")).shop_id
    await installation.seal(running, fresh)
    assert await installation.masters() == [rotated.current.master_key_id]
    with_kms.local_master_keys.unlink()
    await installation.assert_all_opens(build_vault(with_kms))

    assert (await installation.rotate(with_kms)).current.provider == "aws-kms"
    await installation.assert_all_opens(build_vault(with_kms))

    back = await installation.rotate()
    assert back.current.provider == "local"
    assert with_kms.local_master_keys.stat().st_mode & 0o777 == 0o600
    for key in back.droppable:
        await rotation.drop(installation.owner, with_kms, key)
    await installation.assert_all_opens()


async def test_another_kms_key_is_moved_to(installation: Installation, with_kms: Settings) -> None:
    first = await installation.rotate(with_kms)
    arn = boto3.session.Session().client("kms").create_key()["KeyMetadata"]["Arn"]
    second = await installation.rotate(with_kms.model_copy(update={"master_key_kms_id": arn}))
    assert (first.current.service_key_id, second.current.service_key_id) == (with_kms.master_key_kms_id, arn)
    await installation.assert_all_opens(build_vault(with_kms))
