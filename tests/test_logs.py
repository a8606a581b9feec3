"""Logs: structured, at the level that was set, and without secrets whatever goes wrong."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from typing import Literal

import asyncpg
import pytest
import structlog

from sellflow.errors import DatabaseUnavailableError
from sellflow.logs import configure_logging
from sellflow.postgres.database import Connection, Database, Login, Pool, SessionConnection
from sellflow.queue.consumer import Consumer
from sellflow.queue.event_log import adopt
from sellflow.queue.registry import Registry
from sellflow.queue.topics import Event, Outbox, Subscription
from sellflow.queue.wakeups import WakeUps
from sellflow.settings import Settings, load_settings
from sellflow.shops.models import App
from sellflow.shops.store import list_apps
from tests.cli.commands import logging_undone
from tests.conftest import SECRET, Tenant, vault_beside

PLANTED = "a-planted-password"

LogFormat = Literal["console", "json"]
FORMATS = ["console", "json"]


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Undo what a test configures for the whole process."""
    with logging_undone():
        yield


def configure(settings: Settings) -> None:
    """Configure logging as a process does that nobody watches: pytest's own handlers come back with the next test."""
    logging.getLogger().handlers = []
    configure_logging(settings)


def secretive(log_format: str) -> Settings:
    return load_settings(
        log_format=log_format,
        log_level="debug",
        demo_app_secret=PLANTED,
        database_owner_password=PLANTED,
        database_web_password=PLANTED,
        database_worker_password=PLANTED,
        database_ingest_password=PLANTED,
    )


def fail_with_secrets_at_hand(settings: Settings) -> None:
    app = App(app_id=1, handle="acme", client_id="client", client_secret=PLANTED, previous_secret=PLANTED)
    password = PLANTED
    raise LookupError(f"{app.handle}: {len(password)} characters, {settings.environment}")


@pytest.mark.parametrize("log_format", FORMATS)
def test_an_exception_is_logged_without_the_values_around_it(
    capsys: pytest.CaptureFixture[str], log_format: str
) -> None:
    settings = secretive(log_format)
    configure(settings)
    log = structlog.get_logger("test")
    try:
        fail_with_secrets_at_hand(settings)
    except LookupError:
        log.exception("test.failed", settings=settings)
    logged = capsys.readouterr().err
    assert "acme: 18 characters" in logged
    assert "fail_with_secrets_at_hand" in logged
    assert PLANTED not in logged


@pytest.mark.parametrize("log_format", FORMATS)
def test_apps_and_settings_are_logged_without_their_secrets(
    capsys: pytest.CaptureFixture[str], log_format: str
) -> None:
    settings = secretive(log_format)
    configure(settings)
    app = App(app_id=1, handle="acme", client_id="client", client_secret=PLANTED, previous_secret=PLANTED)
    structlog.get_logger("test").info("test.shown", app=app, settings=settings, both=[app, settings])
    logged = capsys.readouterr().err
    assert "acme" in logged
    assert PLANTED not in logged


@pytest.mark.parametrize("log_format", FORMATS)
async def test_a_failing_handler_is_logged_and_set_aside_without_secrets(
    capsys: pytest.CaptureFixture[str], database: Database, owner: SessionConnection, tenant: Tenant, log_format: str
) -> None:
    app_before = tenant.app

    subscription = Subscription("shops", {"shopify.app.uninstalled": "removed"})

    @subscription.handler("shopify.app.uninstalled", parse=lambda _: None)
    async def fail(connection: Connection, batch: Sequence[tuple[Event, object]], _outbox: Outbox) -> None:
        app = app_before
        secret = app.client_secret
        raise LookupError(f"{len(secret)} characters, {app!r}, {connection!r}, {len(batch)}")

    settings = database.settings.model_copy(
        update={"log_format": log_format, "log_level": "debug", "retry_attempts": 1}
    )
    configure(settings)
    await owner.execute(
        """
        INSERT INTO events (day, event_id, app_id, shop_domain, topic, key, payload)
        SELECT (now() AT TIME ZONE 'UTC')::date, nextval('event_ids'), app_id, domain,
               'shopify.app.uninstalled', '', '{}'
        FROM shops
        """
    )
    assert await adopt(owner, Registry([subscription])) == 1
    async with await database.pool(Login.WORKER, purpose="test", size=2) as pool:
        assert await consume(pool, database, subscription, settings) == 1
    logged = capsys.readouterr().err
    assert "queue.failed" in logged
    assert "LookupError" in logged
    assert SECRET not in logged
    dead = await owner.fetchrow("SELECT error_message, stack_trace FROM dead_letters")
    assert dead is not None
    assert "LookupError" in dead["stack_trace"]
    assert SECRET not in dead["error_message"] + dead["stack_trace"]


async def consume(pool: Pool, database: Database, subscription: Subscription, settings: Settings) -> int:
    registry = Registry([subscription])
    consumer = Consumer(
        subscription=subscription, registry=registry, pool=pool, wake_ups=WakeUps(database), settings=settings
    )
    return await consumer.run_once()


@pytest.mark.parametrize("log_format", FORMATS)
async def test_a_database_that_cannot_be_reached_is_logged_without_its_password(
    capsys: pytest.CaptureFixture[str], log_format: str
) -> None:
    settings = secretive(log_format)
    configure(settings)
    nowhere = Database("postgresql:///nowhere?host=/nonexistent", "postgresql:///nowhere?host=/nonexistent", settings)
    try:
        await nowhere.connect(Login.WEB, purpose="test")
    except DatabaseUnavailableError:
        structlog.get_logger("test").exception("test.unreachable", database=nowhere)
    logged = capsys.readouterr().err
    assert "cannot be reached as sellflow_web" in logged
    assert PLANTED not in logged


@pytest.mark.parametrize("log_format", FORMATS)
async def test_a_refused_statement_is_logged_without_its_values(
    capsys: pytest.CaptureFixture[str], owner: SessionConnection, tenant: Tenant, log_format: str
) -> None:
    configure(secretive(log_format))
    assert [app.handle for app in await list_apps(owner, await vault_beside(owner))] == [tenant.app.handle]
    try:
        await owner.execute("UPDATE apps SET client_id = $1, app_id = 'nonsense'::text::integer", PLANTED)
    except asyncpg.PostgresError:
        structlog.get_logger("test").exception("test.refused")
    logged = capsys.readouterr().err
    assert "asyncpg" in logged
    assert PLANTED not in logged
    assert SECRET not in logged


def test_json_is_one_object_a_line_with_level_time_and_trace(capsys: pytest.CaptureFixture[str]) -> None:
    settings = secretive("json")
    configure(settings)
    log = structlog.get_logger("test")
    log.info("test.told", number=1)
    try:
        fail_with_secrets_at_hand(settings)
    except LookupError:
        log.exception("test.failed")
    told, failed = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (told["event"], told["level"], told["number"]) == ("test.told", "info", 1)
    assert told["timestamp"].endswith("Z")
    assert failed["exception"].splitlines()[-1].startswith("LookupError")


def test_what_lies_below_the_level_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    configure(load_settings(log_level="warning"))
    log = structlog.get_logger("test")
    log.info("test.quiet")
    log.warning("test.loud")
    logging.getLogger("library").info("quiet library")
    logging.getLogger("library").warning("loud library")
    captured = capsys.readouterr()
    assert "test.loud" in captured.err
    assert "loud library" in captured.err
    assert "quiet" not in captured.err
    assert captured.out == "", "standard output belongs to what a command answers"


@pytest.mark.parametrize("log_format", FORMATS)
def test_a_library_that_logs_an_exception_shows_no_values_either(
    capsys: pytest.CaptureFixture[str], log_format: str
) -> None:
    settings = secretive(log_format)
    configure(settings)
    try:
        fail_with_secrets_at_hand(settings)
    except LookupError:
        logging.getLogger("library").exception("it %s", "failed")
    logged = capsys.readouterr().err
    assert "it failed" in logged
    assert "acme: 18 characters" in logged
    assert PLANTED not in logged


def test_what_libraries_log_is_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    settings = secretive("json")
    configure(settings)
    try:
        fail_with_secrets_at_hand(settings)
    except LookupError:
        logging.getLogger("library").exception("it failed")
    (line,) = capsys.readouterr().err.splitlines()
    logged = json.loads(line)
    assert (logged["event"], logged["level"], logged["logger"]) == ("it failed", "error", "library")
    assert logged["exception"].splitlines()[-1].startswith("LookupError")
