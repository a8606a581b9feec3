"""An installation whose secrets stand in the clear: `sellflow migrate` seals them, also when it is killed meanwhile."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sellflow.edge.customer_tokens import CustomerSession, TokenVerifier, issue_token
from sellflow.postgres.database import Database, Login, SessionConnection
from sellflow.postgres.migrate import migrate
from sellflow.postgres.opening import prepare
from sellflow.queue.outgoing.store import secret_purpose
from sellflow.roles import prepare_above
from sellflow.secrets import Vault, build_vault
from sellflow.secrets.errors import CannotOpenError
from sellflow.secrets.unsealed import count_unsealed
from sellflow.shops.store import find_app, list_apps
from tests.postgres.databases import connected, empty_database

CURRENT, PREVIOUS = "planted-current-secret", "planted-previous-secret"
SHOPS_OWN, SERVICES_OWN = "whsec_cGxhbnRlZC1zaG9w", "whsec_cGxhbnRlZC1zZXJ2aWNl"
PLAIN = [CURRENT, PREVIOUS, SHOPS_OWN, SERVICES_OWN]
SIGNING = Ed25519PrivateKey.generate()


@dataclass(frozen=True)
class Before:
    """A database at revision 0009 with a secret in every place that had one."""

    database: Database
    owner: SessionConnection
    vault: Vault


@pytest.fixture
async def before(database: Database) -> AsyncIterator[Before]:
    async with empty_database(database) as fresh:
        await asyncio.to_thread(migrate, fresh, to="0009_services")
        async with connected(fresh) as owner:
            await _fill(owner)
            yield Before(fresh, owner, build_vault(fresh.settings))


async def _fill(owner: SessionConnection) -> None:
    await owner.execute(
        f"""
        INSERT INTO apps (handle, client_id, client_secret, previous_secret)
        VALUES ('acme', 'acme', '{CURRENT}', '{PREVIOUS}'), ('solo', 'solo', '{CURRENT}', NULL);
        INSERT INTO shops (app_id, domain, currency) SELECT min(app_id), 'acme.myshopify.com', 'USD' FROM apps;
        INSERT INTO endpoints (shop_id, kind, address, topics)
        SELECT shop_id, 'webhook', 'https://shop.example/', '{{#}}' FROM shops;
        INSERT INTO endpoints (kind, address, topics) VALUES ('webhook', 'https://service.example/', '{{#}}');
        INSERT INTO endpoint_secrets (endpoint_id, shop_id, secret)
        SELECT endpoint_id, shop_id, CASE WHEN shop_id IS NULL THEN '{SERVICES_OWN}' ELSE '{SHOPS_OWN}' END
        FROM endpoints
        """
    )
    await owner.execute(
        "INSERT INTO signing_keys (kid, private_key, public_key) VALUES ('before', $1, $2)",
        SIGNING.private_bytes_raw(),
        SIGNING.public_key().public_bytes_raw(),
    )


async def assert_all_is_sealed(before: Before) -> None:
    owner, vault = before.owner, before.vault
    assert [app.secrets for app in await list_apps(owner, vault)] == [(CURRENT, PREVIOUS), (CURRENT,)]
    rows = await owner.fetch("SELECT endpoint_id, shop_id, secret FROM endpoint_secrets ORDER BY shop_id NULLS LAST")
    opened = [
        await vault.open(owner, row["secret"], shop_id=row["shop_id"], purpose=secret_purpose(row["endpoint_id"]))
        for row in rows
    ]
    assert opened == [SHOPS_OWN, SERVICES_OWN]
    session = CustomerSession(1, 7)
    token = await issue_token(owner, vault, session, ttl=60)
    async with await before.database.pool(Login.WEB, purpose="test", size=1) as pool:
        assert await TokenVerifier(pool, ttl=60).verify(token) == session
    assert await owner.fetchval("SELECT count(*) FROM signing_keys") == 1, "tokens of before stay valid"
    assert await count_unsealed(owner) == 0


async def files_holding(owner: SessionConnection, planted: list[bytes]) -> list[str]:
    """Return the tables whose files hold one of these on the disk, dead rows included."""
    await owner.execute("CHECKPOINT")
    folder = Path(await owner.fetchval("SHOW data_directory"))
    rows = await owner.fetch(
        """
        SELECT relname, pg_relation_filepath(oid) AS path FROM pg_class
        WHERE relkind IN ('r', 'i', 't') AND pg_relation_filepath(oid) IS NOT NULL
        """
    )
    return [
        row["relname"]
        for row in rows
        if (folder / row["path"]).exists() and any(each in (folder / row["path"]).read_bytes() for each in planted)
    ]


async def test_every_secret_of_before_is_sealed_and_means_what_it_meant(before: Before) -> None:
    planted = [
        *(each.encode() for each in PLAIN),
        SIGNING.private_bytes_raw(),
        SIGNING.private_bytes_raw().hex().encode(),
    ]
    assert set(await files_holding(before.owner, planted)) >= {"apps", "endpoint_secrets", "signing_keys"}
    assert await prepare(before.database, prepare_above(before.database.settings)) is True
    await assert_all_is_sealed(before)
    assert await files_holding(before.owner, planted) == []
    assert await prepare(before.database, prepare_above(before.database.settings)) is False
    await assert_all_is_sealed(before)


async def test_between_schema_and_sealing_a_secret_is_missing_with_the_remedy(before: Before) -> None:
    await asyncio.to_thread(migrate, before.database)
    with pytest.raises(CannotOpenError, match="not sealed yet: run `sellflow migrate`"):
        await find_app(before.owner, before.vault, "acme")
    assert await list_apps(before.owner, before.vault) == []
    await prepare(before.database, prepare_above(before.database.settings))
    await assert_all_is_sealed(before)


PREPARE = """
import asyncio, os, sys
from sellflow.postgres.database import Database
from sellflow.postgres.opening import prepare
from sellflow.roles import prepare_above
from sellflow.secrets import Vault
from sellflow.settings import load_settings

settings, sealed = load_settings(), Vault.seal
left = int(sys.argv[2])

async def seal_or_die(self, *arguments, **named):
    global left
    left -= 1
    if left < 0:
        os._exit(9)
    return await sealed(self, *arguments, **named)

Vault.seal = seal_or_die
database = Database(sys.argv[1], sys.argv[1], settings)
asyncio.run(prepare(database, prepare_above(settings)))
"""


async def test_a_migration_that_is_killed_at_any_secret_goes_on_where_it_stopped(before: Before) -> None:
    environment = os.environ | {
        "SELLFLOW_ENVIRONMENT": "test",
        "SELLFLOW_DATABASE_OWNER": before.database.settings.database_owner,
        "SELLFLOW_MASTER_KEY_FILE": str(before.database.settings.local_master_keys),
        "SELLFLOW_LOG_LEVEL": "error",
    }

    def run(secrets: int) -> int:
        command = [sys.executable, "-c", PREPARE, before.database.session_url, str(secrets)]
        return subprocess.run(command, env=environment, timeout=60, check=False).returncode

    assert await asyncio.to_thread(run, 0) == 9
    assert await count_unsealed(before.owner) == 6
    assert await asyncio.to_thread(run, 2) == 9
    assert await count_unsealed(before.owner) == 4
    assert await asyncio.to_thread(run, 3) == 9
    assert await count_unsealed(before.owner) == 1
    assert await asyncio.to_thread(run, 1) == 0
    await assert_all_is_sealed(before)


async def test_two_who_migrate_at_once_seal_everything_once(before: Before) -> None:
    def run() -> None:
        asyncio.run(prepare(before.database, prepare_above(before.database.settings)))

    await asyncio.gather(*(asyncio.to_thread(run) for _ in range(2)))
    await assert_all_is_sealed(before)
