"""Secrets reach no log, error, dead letter, answer of a command or column of the database, in any spelling."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sellflow.logs import configure_logging
from sellflow.postgres.database import Connection, Database, Pool, SessionConnection
from sellflow.queue.event_log import adopt, emit
from sellflow.queue.outgoing.addresses import Allowance, parse_networks
from sellflow.queue.outgoing.endpoints import add_endpoint, rotate_secret
from sellflow.queue.registry import Registry
from sellflow.queue.topics import EmittedEvent, Event, Outbox, Subscription
from sellflow.roles import build_registry
from sellflow.secrets import Vault, build_vault, store
from sellflow.secrets.errors import SecretsError
from sellflow.secrets.key_file import LocalKeys
from sellflow.secrets.providers import MasterKeyRow
from sellflow.shops.models import App
from sellflow.shops.store import add_app
from sellflow.shops.store import rotate_secret as rotate_app_secret
from tests.cli.commands import CommandLine, environment, logging_undone
from tests.conftest import Tenant, make_tenant
from tests.edge.serving import with_settings
from tests.queue.consuming import drain
from tests.webhooks.deliveries import order_body

TOKEN = "shpat_0f5ca41e-planted-access-token"
FIRST_APP_SECRET, APP_SECRET = "shpss_planted-before-rotation", "shpss_planted-after-rotation"
LOOPBACK = "127.0.0.0/8"


def spellings(secret: bytes) -> set[bytes]:
    """Return how a secret may stand in a text: raw, in hex, and in base64 wherever in a longer value it begins."""
    found = {secret, secret.hex().encode(), secret.hex().upper().encode()}
    for offset in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            encoded = encode(b"\x00" * offset + secret).rstrip(b"=")
            # The characters at both ends depend on what stands beside the secret.
            found.add(encoded[(offset * 8 + 5) // 6 : -1])
    return found


@dataclass
class Planted:
    """The secrets of an installation, and where they are looked for."""

    needles: dict[str, set[bytes]] = field(default_factory=dict)

    def plant(self, name: str, secret: bytes) -> None:
        # A column of type bytea is shown in hex, whatever stands in it.
        plain = spellings(secret)
        self.needles[name] = plain | {each.hex().encode() for each in plain}

    def found_in(self, haystack: str | bytes) -> list[str]:
        """Return the names of secrets that stand in a text."""
        content = haystack.encode() if isinstance(haystack, str) else haystack
        return [name for name, needles in self.needles.items() if any(each in content for each in needles)]


async def dump(owner: SessionConnection) -> str:
    """Return every column of every table of ours and the queue's as text."""
    tables = await owner.fetch(
        "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables WHERE schemaname IN ('public', 'pgmq')"
    )
    rows = [await owner.fetch(f"SELECT t::text AS line FROM {table['name']} t") for table in tables]
    return "\n".join(row["line"] for each in rows for row in each)


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    with logging_undone():
        yield


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(monkeypatch, capsys)


@dataclass
class Installation:
    """An installation that has a secret of every kind."""

    database: Database
    owner: SessionConnection
    vault: Vault
    app: App
    tenant: Tenant
    sealed: bytes
    planted: Planted
    registry: Registry


@pytest.fixture
async def installation(database: Database, owner: SessionConnection) -> Installation:
    database = with_settings(database, outgoing_private_networks=LOOPBACK, retry_attempts=1, log_level="debug")
    vault, planted = build_vault(database.settings), Planted()
    app = await add_app(owner, vault, handle="acme", client_id="client", client_secret=FIRST_APP_SECRET)
    await rotate_app_secret(owner, vault, "acme", APP_SECRET)
    tenant = await make_tenant(owner, "acme", app=app)
    sealed = await vault.seal(owner, TOKEN, shop_id=tenant.shop_id, purpose="token")
    registry = build_registry(database.settings)
    for name, secret in (("token", TOKEN), ("app", APP_SECRET), ("previous app", FIRST_APP_SECRET)):
        planted.plant(name, secret.encode())
    for shop_id in (tenant.shop_id, None):
        endpoint, first = await add_endpoint(
            owner,
            registry,
            vault,
            address="http://127.0.0.1:9/hooks",
            topics=["loyalty.#", "queue.#"],
            shop_id=shop_id,
            allowance=Allowance(parse_networks(LOOPBACK)),
        )
        for secret in (first or "", await rotate_secret(owner, vault, endpoint.endpoint_id, overlap=timedelta(days=1))):
            planted.plant(f"endpoint {endpoint.endpoint_id}", secret.encode())
            planted.plant(f"endpoint {endpoint.endpoint_id}, decoded", base64.b64decode(secret.removeprefix("whsec_")))
    await _plant_keys(owner, vault, database, planted)
    return Installation(database, owner, vault, app, tenant, sealed, planted, registry)


async def _plant_keys(owner: SessionConnection, vault: Vault, database: Database, planted: Planted) -> None:
    row = await owner.fetchrow("SELECT kid, private_key FROM signing_keys")
    assert row is not None
    private = await vault.open(owner, row["private_key"], shop_id=None, purpose=f"signing-key/{row['kid']}")
    assert Ed25519PrivateKey.from_private_bytes(bytes.fromhex(private))
    planted.plant("signing key", bytes.fromhex(private))
    key_id = await owner.fetchval("SELECT master_key_id FROM master_keys")
    keys = LocalKeys(database.settings.local_master_keys)
    planted.plant("master key", await keys.load(MasterKeyRow("local", key_id)))
    for data_key_id, held in vault._held.items():
        planted.plant(f"data key {data_key_id}", held.key)


def test_the_search_finds_a_secret_in_every_spelling() -> None:
    """The tests below can fail."""
    planted, secret = Planted(), TOKEN.encode()
    planted.plant("token", secret)
    for around in (b"", b"a", b"ab", b"abc"):
        whole = around + secret + around
        for shown in (whole, whole.hex().encode(), base64.b64encode(whole), base64.urlsafe_b64encode(whole)):
            assert planted.found_in(b"before " + shown + b" after") == ["token"]
            assert planted.found_in(shown.hex()) == ["token"], "as a column of bytes is shown"
    assert planted.found_in(secret[:-1] + b"?") == []


async def test_the_database_holds_no_secret_in_any_column(installation: Installation) -> None:
    held = await dump(installation.owner)
    assert "client" in held
    assert installation.planted.found_in(held) == []
    # The same search finds one that is stored as it is.
    await installation.owner.execute("UPDATE apps SET client_id = $1", APP_SECRET)
    assert installation.planted.found_in(await dump(installation.owner)) == ["app"]


@pytest.mark.parametrize("log_format", ["console", "json"])
async def test_whatever_fails_tells_no_secret(
    installation: Installation, worker_pool: Pool, capsys: pytest.CaptureFixture[str], log_format: str
) -> None:
    _configure(with_settings(installation.database, log_format=log_format))
    await _fail_in_a_handler(installation, worker_pool)
    await _fail_to_deliver(installation, worker_pool)
    await _fail_to_open(installation)
    logged = capsys.readouterr().err
    assert "queue.failed" in logged
    assert "outgoing" in logged
    assert "does not open" in logged
    assert installation.planted.found_in(logged) == []
    assert await installation.owner.fetchval("SELECT count(*) FROM dead_letters") == 1
    assert await installation.owner.fetchval("SELECT count(*) FROM endpoint_attempts") >= 1
    assert installation.planted.found_in(await dump(installation.owner)) == []


def _configure(database: Database) -> None:
    logging.getLogger().handlers = []
    configure_logging(database.settings)


async def _fail_in_a_handler(installation: Installation, pool: Pool) -> None:
    """Dead letters of a handler that had a token, an app and a vault in hand when it failed."""
    subscription = Subscription("loyalty", {"shopify.orders.paid": "an order was paid for"})

    @subscription.handler("shopify.orders.paid", parse=lambda _: None)
    async def fail(connection: Connection, batch: Sequence[tuple[Event, object]], _outbox: Outbox) -> None:
        shop = installation.tenant.shop_id
        token = await installation.vault.open(connection, installation.sealed, shop_id=shop, purpose="token")
        app, vault = installation.app, installation.vault
        try:
            int(token.__class__.__name__)
        except ValueError as error:
            raise LookupError(f"{len(token)}, {app!r}, {vault!r}, {vault._held!r}, {len(batch)}") from error

    await installation.owner.execute(
        """
        INSERT INTO events (day, event_id, app_id, shop_domain, topic, key, payload)
        SELECT (now() AT TIME ZONE 'UTC')::date, nextval('event_ids'), app_id, domain, 'shopify.orders.paid', '', $1
        FROM shops
        """,
        order_body(),
    )
    registry = Registry([subscription])
    await adopt(installation.owner, registry)
    await drain(installation.database, pool, registry, "loyalty")


async def _fail_to_deliver(installation: Installation, pool: Pool) -> None:
    """Attempts at an endpoint that is away, and deliveries whose endpoint's secrets do not open."""
    owner, registry = installation.owner, installation.registry

    async def tell() -> None:
        event = EmittedEvent(installation.tenant.shop_id, "loyalty.points.earned", "x", b'{"word": "x"}')
        await emit(owner, registry, [event])
        await drain(installation.database, pool, registry, "outgoing", "outgoing_deliveries")

    await tell()
    await owner.execute("UPDATE endpoint_secrets SET secret = secret || '!'::bytea")
    await tell()


async def _fail_to_open(installation: Installation) -> None:
    """Errors of the vault, with everything that a log line may be given."""
    log = structlog.get_logger("test")
    shop_id, vault, owner = installation.tenant.shop_id, installation.vault, installation.owner
    for value, of_shop, purpose in (
        (installation.sealed + b"!", shop_id, "token"),
        (installation.sealed, shop_id, "another"),
        (installation.sealed, None, "token"),
        (TOKEN.encode()[:5], shop_id, "token"),
    ):
        try:
            await vault.open(owner, value, shop_id=of_shop, purpose=purpose)
        except SecretsError:
            log.exception(
                "test.failed", app=installation.app, vault=vault, held=[*vault._held.values()], keys=vault._providers
            )
    parcels = [dict(row) for row in await owner.fetch("SELECT delivery_id FROM endpoint_deliveries")]
    log.info("test.shown", parcels=parcels, rows=await store.key_uses(owner), settings=installation.database.settings)


async def test_no_command_shows_a_secret(
    installation: Installation, worker_pool: Pool, line: CommandLine, tmp_path: Path
) -> None:
    await _fail_in_a_handler(installation, worker_pool)
    settings = installation.database.settings
    env = environment(
        tmp_path,
        environment="test",
        database_session_url=installation.database.session_url,
        database_owner=settings.database_owner,
        master_key_file=settings.local_master_keys,
    )
    commands = (
        "apps list",
        "shops list",
        "endpoints list --json",
        "endpoints show 1",
        "endpoints deliveries 1 --json",
        "deadletters list --json",
        "deadletters show 1",
        "explain order 1001",
        "queues --json",
        "topics --json",
        "jobs --json",
        "secrets status",
        "secrets status --json",
        "secrets rotate --json",
        "secrets rotate",
        "secrets status --json",
        "token acme.myshopify.com 7",
    )
    for command in commands:
        done = await asyncio.to_thread(line.run, *command.split(), env=env)
        assert done.code == (1 if command.startswith("explain") else 0), f"{command}: {done.err}"
        assert installation.planted.found_in(done.out + done.err) == [], command
