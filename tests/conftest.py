"""A real Postgres for every test that asks for one: a server per process, a cloned database per test."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from itertools import count
from pathlib import Path

import asyncpg
import hypothesis
import pytest

from sellflow.loyalty.models import Rounding
from sellflow.loyalty.program_store import set_spend_rule
from sellflow.postgres.database import Database, Login, Pool, SessionConnection, close_pool
from sellflow.postgres.embedded import DATABASE, SUPERUSER, EmbeddedPostgres
from sellflow.postgres.opening import prepare
from sellflow.queue.registry import Registry
from sellflow.roles import build_registry, prepare_above
from sellflow.secrets import Vault, build_vault
from sellflow.settings import Settings, load_settings
from sellflow.shops.models import App, Shop
from sellflow.shops.store import add_app, install_shop

#: Only tests may lose data when the machine does.
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "100"}
MEMORY = Path("/dev/shm")
MEMORY_NEEDED = 2 * 1024**3
SECRET = "hush-little-shop-do-not-say-a-word"

# A busy machine is no fault of the code: no example is timed.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

_database_numbers = count(1)


@dataclass(frozen=True)
class Tenant:
    """A shop and the app it installed."""

    app: App
    shop: Shop

    @property
    def shop_id(self) -> int:
        return self.shop.shop_id


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests start from the defaults, whatever the shell has set."""
    for name in list(os.environ):
        if name.startswith("SELLFLOW_") and not name.startswith("SELLFLOW_TEST_"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """A short-named folder that the server's user can reach, also when root runs the tests."""
    path = Path(tempfile.mkdtemp(prefix="sellflow-test-", dir=_memory()))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


def _memory() -> Path | None:
    """A file system in memory, where there is one with room: a test's database is some 700 files, copied for it."""
    return MEMORY if MEMORY.is_mount() and shutil.disk_usage(MEMORY).free > MEMORY_NEEDED else None


@pytest.fixture(scope="session")
def server_url(folder: Path) -> Iterator[str]:
    """The address of a running server whose database `sellflow` is migrated and serves as the template."""
    with running_server(folder) as url:
        yield url


@contextmanager
def running_server(folder: Path) -> Iterator[str]:
    """Run a server under `folder`, with its template."""
    with EmbeddedPostgres(folder, binaries=_binaries(), extra=FAST).running() as url:
        database = Database(url, url, settings_for(folder))
        asyncio.run(prepare(database, prepare_above(database.settings)))
        yield url


def _binaries() -> Path | None:
    """The programs of another Postgres than the packaged one, to run the tests against (15 to 18)."""
    named = os.environ.get("SELLFLOW_TEST_POSTGRES_BIN")
    return Path(named) if named else None


def settings_for(folder: Path) -> Settings:
    """The settings of tests, with their files under `folder`."""
    return load_settings(environment="test", data_dir=folder, database_owner=SUPERUSER, log_level="error")


@pytest.fixture
def settings(folder: Path) -> Settings:
    return settings_for(folder)


@pytest.fixture
async def database(server_url: str, settings: Settings) -> AsyncIterator[Database]:
    """A database of its own for one test."""
    async with cloned_database(server_url, settings) as clone:
        yield clone


@asynccontextmanager
async def cloned_database(server_url: str, settings: Settings) -> AsyncIterator[Database]:
    """A clone of the template, for as long as the block runs."""
    name = f"test_{next(_database_numbers)}"
    admin = await asyncpg.connect(server_url.replace(f"/{DATABASE}?", "/postgres?"), user=SUPERUSER)
    try:
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE {DATABASE} STRATEGY FILE_COPY")
        url = server_url.replace(f"/{DATABASE}?", f"/{name}?")
        yield Database(url, url, settings)
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await admin.close()


@pytest.fixture
async def owner(database: Database) -> AsyncIterator[SessionConnection]:
    connection = await database.connect(Login.OWNER, purpose="test")
    yield connection
    await connection.close()


@pytest.fixture
async def worker_pool(database: Database) -> AsyncIterator[Pool]:
    pool = await database.pool(Login.WORKER, purpose="test worker", size=4)
    yield pool
    await close_pool(pool)


@pytest.fixture
async def web_pool(database: Database) -> AsyncIterator[Pool]:
    pool = await database.pool(Login.WEB, purpose="test web", size=4)
    yield pool
    await close_pool(pool)


@pytest.fixture
async def ingest_pool(database: Database) -> AsyncIterator[Pool]:
    pool = await database.pool(Login.INGEST, purpose="test ingest", size=4)
    yield pool
    await close_pool(pool)


@pytest.fixture
async def admin_pool(database: Database) -> AsyncIterator[Pool]:
    pool = await database.pool(Login.ADMIN, purpose="test admin", size=4)
    yield pool
    await close_pool(pool)


@pytest.fixture
def registry(settings: Settings) -> Registry:
    return build_registry(settings)


@pytest.fixture
def vault(database: Database) -> Vault:
    return build_vault(database.settings)


async def vault_beside(owner: SessionConnection) -> Vault:
    """The vault of the server's template, whose master key lies beside its socket."""
    return build_vault(settings_for(Path(await owner.fetchval("SHOW unix_socket_directories")).parent))


@pytest.fixture
async def tenant(owner: SessionConnection) -> Tenant:
    """A shop in US dollars that gives one point for each, rounded down."""
    return await make_tenant(owner, "acme")


@pytest.fixture
async def other_tenant(owner: SessionConnection, tenant: Tenant) -> Tenant:
    """Another shop of the same app."""
    return await make_tenant(owner, "other", app=tenant.app)


async def make_tenant(
    owner: SessionConnection, name: str, *, app: App | None = None, rate: str = "1", rounding: str = "down"
) -> Tenant:
    """Install a shop called NAME.myshopify.com, with an app of its own unless one is given."""
    if app is None:
        vault = await vault_beside(owner)
        app = await add_app(owner, vault, handle=name, client_id=f"client-{name}", client_secret=SECRET)
    shop = await install_shop(owner, app_id=app.app_id, domain=f"{name}.myshopify.com", currency="USD")
    await set_spend_rule(owner, shop.shop_id, points_per_unit=Decimal(rate), rounding=Rounding(rounding))
    return Tenant(app, shop)
