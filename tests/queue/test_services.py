"""Services of other teams: what is refused, and that their scripts run once."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from sellflow.errors import ConfigurationError, MigrationError
from sellflow.postgres.database import Database, Login, SessionConnection
from sellflow.postgres.opening import prepare
from sellflow.queue.services import Service, load_services, migrate_services
from sellflow.queue.topics import Subscription
from sellflow.roles import build_registry, prepare_above, worker
from sellflow.settings import Settings
from tests.edge.serving import with_settings

SERVICE = """
from sellflow.queue import Subscription

subscription = Subscription("gifts", {"gifts.granted": "a gift was granted"})

@subscription.handler("loyalty.points.earned", parse=lambda event: event)
async def grant(connection, batch, outbox):
    pass
"""
TABLE = "CREATE SCHEMA mine; CREATE TABLE mine.things (shop_id bigint);"

Write = Callable[[str], Settings]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Iterator[Write]:
    """Write the module `lab_service` and return settings that name it."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(code: str) -> Settings:
        (tmp_path / "lab_service.py").write_text(code, encoding="utf-8")
        return settings.model_copy(update={"services": " lab_service ,lab_service"})

    yield write
    sys.modules.pop("lab_service", None)


def test_a_service_joins_the_domains(write: Write) -> None:
    registry = build_registry(write(SERVICE))
    assert {"loyalty", "shops", "gifts"} <= set(registry.subscriptions)
    assert registry.queues_of("loyalty.points.earned") == ("gifts",)


def test_without_services_there_are_only_the_domains(settings: Settings) -> None:
    assert load_services(settings) == []


def test_a_module_that_is_not_there_is_named_with_its_setting(settings: Settings) -> None:
    with pytest.raises(ConfigurationError, match=r"SELLFLOW_SERVICES: no\.such_module cannot be imported"):
        load_services(settings.model_copy(update={"services": "no.such_module"}))


def test_a_module_that_misses_another_says_which(write: Write) -> None:
    with pytest.raises(ConfigurationError, match=r"lab_service cannot be imported .*no_such_library"):
        load_services(write("import no_such_library"))


@pytest.mark.parametrize("code", ["", "subscription = None", "SUBSCRIPTION = 1"])
def test_a_module_without_a_subscription_is_no_service(write: Write, code: str) -> None:
    with pytest.raises(ConfigurationError, match="SELLFLOW_SERVICES: lab_service declares no service"):
        load_services(write(code))


@pytest.mark.parametrize("migrations", ["'CREATE TABLE t ()'", "(1,)"])
def test_migrations_are_scripts(write: Write, migrations: str) -> None:
    with pytest.raises(ConfigurationError, match="MIGRATIONS of lab_service has to be a tuple of SQL scripts"):
        load_services(write(f"{SERVICE}\nMIGRATIONS = {migrations}"))


def test_a_service_that_contradicts_a_domain_is_refused(write: Write) -> None:
    code = SERVICE.replace('"gifts.granted"', '"loyalty.points.earned"')
    with pytest.raises(ConfigurationError, match=r"queue gifts declares the topic loyalty\.points\.earned as"):
        build_registry(write(code))


async def test_migrating_makes_queue_and_binding_and_never_takes_one_away(
    database: Database, owner: SessionConnection, write: Write
) -> None:
    settings = write(SERVICE)
    await prepare(with_settings(database, services=settings.services), prepare_above(settings))
    bound = "SELECT pattern FROM pgmq.topic_bindings WHERE queue_name = 'gifts'"
    assert await owner.fetchval(bound) == "loyalty.points.earned"
    await prepare(database, prepare_above(database.settings))
    assert await owner.fetchval(bound) == "loyalty.points.earned"


async def test_a_queue_whose_service_is_gone_is_warned_of(
    database: Database, owner: SessionConnection, write: Write
) -> None:
    settings = write(SERVICE)
    await prepare(database, prepare_above(settings))
    with capture_logs() as logged:
        await prepare(database, prepare_above(settings))
        assert logged == []
        await prepare(database, prepare_above(database.settings))
    assert [(each["event"], each["queue"], each["patterns"]) for each in logged] == [
        ("queue.unserved", "gifts", ["loyalty.points.earned"])
    ]


async def test_a_worker_refuses_a_service_that_was_not_migrated(database: Database, write: Write) -> None:
    settings = write(SERVICE)
    with pytest.raises(MigrationError, match="no queue gifts: run `sellflow migrate` with the same SELLFLOW_SERVICES"):
        await worker(with_settings(database, services=settings.services))(asyncio.Event())


async def migrate(connection: SessionConnection, settings: Settings, *scripts: str) -> None:
    await migrate_services(connection, [Service(Subscription("lab"), scripts)], settings)


async def test_a_script_runs_once_and_the_next_one_after_it(owner: SessionConnection, settings: Settings) -> None:
    first, second = "CREATE TABLE once (n integer)", "INSERT INTO once VALUES (1)"
    await migrate(owner, settings, first)
    for _ in range(2):
        await migrate(owner, settings, first, second)
    assert await owner.fetchval("SELECT count(*) FROM once") == 1


async def test_processes_that_migrate_at_once_run_a_script_once(database: Database, owner: SessionConnection) -> None:
    async def migrate_alone() -> None:
        connection = await database.connect(Login.OWNER, purpose="test")
        await migrate(connection, database.settings, "CREATE TABLE once (n integer)", "INSERT INTO once VALUES (1)")
        await connection.close()

    await asyncio.gather(*(migrate_alone() for _ in range(4)))
    assert await owner.fetchval("SELECT count(*) FROM once") == 1


async def test_a_script_that_fails_leaves_nothing_and_what_ran_before_it_stays(
    owner: SessionConnection, settings: Settings
) -> None:
    with pytest.raises(MigrationError, match=r"migration 2 of the service lab failed and was rolled back: .*zero"):
        await migrate(owner, settings, "CREATE TABLE kept ()", "CREATE TABLE lost (); SELECT 1/0")
    assert await owner.fetchval("SELECT to_regclass('kept') IS NOT NULL AND to_regclass('lost') IS NULL")
    await migrate(owner, settings, "CREATE TABLE kept ()", "CREATE TABLE lost ()")


async def test_a_script_that_ran_may_not_change(owner: SessionConnection, settings: Settings) -> None:
    await migrate(owner, settings, "CREATE TABLE t ()")
    with pytest.raises(MigrationError, match="migration 1 of the service lab was changed after it had run"):
        await migrate(owner, settings, "CREATE TABLE t (n integer)")


async def test_a_table_that_every_shop_could_read_is_refused(owner: SessionConnection, settings: Settings) -> None:
    with pytest.raises(MigrationError, match=r"leaves mine\.things open to every shop: .*'mine\.things'"):
        await migrate(owner, settings, TABLE)
    assert await owner.fetchval("SELECT to_regclass('mine.things') IS NULL")
    await migrate(owner, settings, TABLE + "CALL protect_tenant_table('mine.things')")
