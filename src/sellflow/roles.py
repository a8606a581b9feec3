"""The process roles: each is a coroutine that serves until it is told to stop."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, contextmanager

import structlog
import uvicorn

from sellflow.edge.personal_data import PERSONAL_DATA as OF_EDGE
from sellflow.edge.pruning import prune_edge
from sellflow.errors import ConfigurationError, PortTakenError
from sellflow.loyalty import handlers as loyalty
from sellflow.loyalty.personal_data import PERSONAL_DATA as OF_LOYALTY
from sellflow.postgres.database import Database, Login, SessionConnection, close_connection, close_pool
from sellflow.postgres.opening import Prepare, check_revision
from sellflow.postgres.personal_data import PERSONAL_DATA as OF_POSTGRES
from sellflow.postgres.personal_data import Inventory
from sellflow.postgres.revisions import check_schema
from sellflow.queue.consumer import Consumer
from sellflow.queue.figures import QueueFigures, read_figures
from sellflow.queue.housekeeping.adoption import adopt_events
from sellflow.queue.housekeeping.expired_days import drop_expired_days
from sellflow.queue.housekeeping.held_transactions import watch_transactions
from sellflow.queue.housekeeping.partitions import make_day_partitions
from sellflow.queue.housekeeping.pruning import prune_log
from sellflow.queue.housekeeping.receipts import prune_receipts
from sellflow.queue.housekeeping.stranded import release_stranded_messages
from sellflow.queue.housekeeping.vacuum import vacuum_queues
from sellflow.queue.jobs import Job
from sellflow.queue.outgoing import handlers as outgoing
from sellflow.queue.outgoing.endpoints import bind_endpoints, seal_endpoint_secrets
from sellflow.queue.periodic import Scheduler
from sellflow.queue.personal_data import PERSONAL_DATA as OF_QUEUE
from sellflow.queue.registry import Registry
from sellflow.queue.services import load_services, migrate_services
from sellflow.queue.setup import check_queues, prepare_queues
from sellflow.queue.wakeups import WakeUps
from sellflow.secrets import Vault, build_vault
from sellflow.secrets.personal_data import PERSONAL_DATA as OF_SECRETS
from sellflow.secrets.setup import check_keys, ensure_keys
from sellflow.secrets.unsealed import empty_file
from sellflow.settings import Settings
from sellflow.shopify.admin.opening import AdminClients
from sellflow.shopify.personal_data import PERSONAL_DATA as OF_SHOPIFY
from sellflow.shops import handlers as shops
from sellflow.shops.call_jobs import prune_admin_calls
from sellflow.shops.compliance import handlers as compliance
from sellflow.shops.compliance.fulfilment import fulfil_compliance
from sellflow.shops.imports.handlers import continue_imports
from sellflow.shops.personal_data import PERSONAL_DATA as OF_SHOPS
from sellflow.shops.plans.truth import verify_plans
from sellflow.shops.plans.usage import count_usage
from sellflow.shops.reconciliation import handlers as reconciliation
from sellflow.shops.reconciliation.handlers import begin_reconciliations
from sellflow.shops.store import seal_app_secrets
from sellflow.shops.token_jobs import announce_installations, renew_tokens
from sellflow.status.health import Health

log = structlog.get_logger(__name__)

#: Serves until the event is set.
Serve = Callable[[asyncio.Event], Awaitable[None]]

#: Seconds for handing back what was given up, when a worker stops.
HAND_BACK_WITHIN = 3.0


def build_registry(settings: Settings, vault: Vault | None = None, clients: AdminClients | None = None) -> Registry:
    """Return the subscriptions of every domain, and of the services that the settings name.

    A process that has a vault lends it, so that keys are unwrapped once; nobody else needs one to know what there is.

    Raises
    ------
    ConfigurationError
        If a service cannot be loaded, or declarations contradict each other.
    """
    services = [service.subscription for service in load_services(settings)]
    vault = vault or build_vault(settings)
    told = outgoing.subscriptions(settings, vault)
    asked = reconciliation.subscription(settings, clients or AdminClients(settings), vault)
    return Registry([loyalty.subscription, shops.subscription, compliance.subscription, asked, *told, *services])


def build_inventory(settings: Settings) -> Inventory:
    """Return what every room, and every service that the settings name, declares of its tables.

    Raises
    ------
    ConfigurationError
        If a service cannot be loaded, or declarations contradict each other.
    """
    services = [service.personal_data for service in load_services(settings) if service.personal_data]
    # The upper rooms first: their rows refer to those of the lower.
    return Inventory([*services, OF_LOYALTY, OF_EDGE, OF_SHOPS, OF_QUEUE, OF_SHOPIFY, OF_SECRETS, OF_POSTGRES])


def prepare_above(settings: Settings) -> Prepare:
    """Return what `migrate` does above the schema: keys, services' tables, queues, partitions."""

    async def prepare(connection: SessionConnection) -> None:
        from sellflow.edge.customer_tokens import (  # noqa: PLC0415 - loads FastAPI
            ensure_signing_key,
            seal_signing_keys,
        )

        registry, vault = build_registry(settings), build_vault(settings)
        await ensure_keys(connection, vault, settings)
        await migrate_services(connection, load_services(settings), settings)
        await prepare_queues(connection, registry, days_ahead=settings.event_partitions_ahead)
        await bind_endpoints(connection, registry)
        for seal_stored in (seal_app_secrets, seal_endpoint_secrets, seal_signing_keys):
            await seal_stored(connection, vault)
        await empty_file(connection)
        await ensure_signing_key(connection, vault)

    return prepare


def run(serve: Serve) -> None:
    """Run a role in this process until SIGTERM or SIGINT."""

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await serve(stop)

    import uvloop  # noqa: PLC0415 - only a process that serves needs it

    # What is loaded by now stays for good: the collector need not look through it again and again.
    gc.collect()
    gc.freeze()

    uvloop.run(main())


def bind(host: str, port: int, *, setting: str) -> socket.socket:
    """Bind a listening socket.

    Raises
    ------
    PortTakenError
        If another program listens there, naming the port and the setting that changes it.
    """
    listener: socket.socket | None = None
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        if listener:
            listener.close()
        if error.errno in (98, 48):  # EADDRINUSE on Linux and macOS
            raise PortTakenError(
                f"port {port} on {host} is taken by another program: end that one, or set {setting} to another port"
            ) from error
        raise ConfigurationError(f"{host}:{port} cannot be listened on ({error.strerror}): set {setting}") from error
    return listener


async def serve_http(app: object, listener: socket.socket, stop: asyncio.Event) -> None:
    """Serve an ASGI application on a bound socket until `stop`, finishing what is in flight."""
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
        loop="none",
        http="httptools",
        ws="none",
        lifespan="on",
        access_log=False,
        proxy_headers=False,  # nothing here depends on the sender's address
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=5,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([task, stopping], return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True
    stopping.cancel()
    await task


class _Server(uvicorn.Server):
    """Uvicorn without its signal handlers: signals are `run`'s."""

    @contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def] # noqa: ANN202 - uvicorn's own signature
        yield


def web(database: Database, listener: socket.socket) -> Serve:
    """Return the web role: webhooks, mobile API, status page."""
    from sellflow.app import WebApplication  # noqa: PLC0415 - FastAPI is the web role's alone

    async def serve(stop: asyncio.Event) -> None:
        await check_revision(database, Login.WEB)
        app = WebApplication(database, build_registry(database.settings))
        await check_keys(database, Login.WEB, app.vault)
        watch = asyncio.create_task(_forward(stop, app.api.state.stopping))
        async with operations(database.settings, app.health, app.figures):
            await serve_http(app, listener, stop)
        watch.cancel()

    return serve


async def _forward(stop: asyncio.Event, other: asyncio.Event) -> None:
    await stop.wait()
    other.set()


def worker(database: Database, queues: Sequence[str] = ()) -> Serve:
    """Return the worker role: a consumer for each of `queues` (all, when empty)."""

    async def serve(stop: asyncio.Event) -> None:
        settings = database.settings
        await check_revision(database, Login.WORKER)
        vault = build_vault(settings)
        await check_keys(database, Login.WORKER, vault)
        clients = AdminClients(settings)
        registry = build_registry(settings, vault, clients)
        unknown = set(queues) - set(registry.subscriptions)
        if unknown:
            known = ", ".join(registry.subscriptions)
            raise ConfigurationError(
                f"SELLFLOW_WORKER_QUEUES: there is no queue {', '.join(sorted(unknown))} (known: {known})"
            )
        subscriptions = [each for name, each in registry.subscriptions.items() if name in queues or not queues]
        await check_queues(database, (each.queue for each in subscriptions))
        served = [
            each
            for each in subscriptions
            for _ in range(min(each.consumers or settings.worker_consumers, settings.worker_consumers))
        ]
        pool = await database.pool(Login.WORKER, purpose="worker", size=len(served) + 1)
        wake_ups = WakeUps(database)
        consumers = [
            Consumer(subscription=each, registry=registry, pool=pool, wake_ups=wake_ups, settings=settings)
            for each in served
        ]

        health = Health(lambda: check_schema(pool), stop=stop, loops=consumers, stuck_after=settings.worker_stuck_after)
        listening = asyncio.create_task(wake_ups.listen())
        tasks = [asyncio.create_task(consumer.run()) for consumer in consumers]
        log.info("worker.serves", queues=[each.queue for each in subscriptions])
        # Open until the last batch is done: whoever watches a worker that stops sees that it lives, and is not ready.
        async with operations(settings, health, lambda: read_figures(pool)):
            await _until_stopped(tasks, stop)
            for consumer in consumers:
                consumer.stop()
            await _drain(tasks, settings.worker_grace)
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
            await clients.close()
            await close_pool(pool)

    return serve


async def _until_stopped(tasks: Sequence[asyncio.Task[None]], stop: asyncio.Event) -> None:
    """Wait for `stop`, or for a task that ended by itself: that is a fault, and is raised."""
    stopping = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    for task in done - {stopping}:
        await task


async def _drain(tasks: Sequence[asyncio.Task[None]], grace: float) -> None:
    """Let consumers finish their batch; what takes longer is rolled back and handled by another worker."""
    _, late = await asyncio.wait(tasks, timeout=grace)
    for task in late:
        log.warning("worker.batch_given_up", grace=grace)
        task.cancel()
    if late:
        # A database that hangs takes no message back: its claims run out instead.
        await asyncio.wait(late, timeout=HAND_BACK_WITHIN)


def scheduler(database: Database) -> Serve:
    """Return the scheduler role: periodic work, done by whichever scheduler leads."""

    async def serve(stop: asyncio.Event) -> None:
        await check_revision(database, Login.OWNER)
        role = Scheduler(database, periodic_jobs(database.settings))

        async def check() -> None:
            async with _connected(database) as connection:
                await check_schema(connection)

        async def figures() -> list[QueueFigures]:
            async with _connected(database) as connection:
                return await read_figures(connection)

        async with operations(database.settings, Health(check, stop=stop), figures):
            task = asyncio.create_task(role.run())
            await _until_stopped([task], stop)
            role.stop()
            await task

    return serve


@asynccontextmanager
async def _connected(database: Database) -> AsyncIterator[SessionConnection]:
    """Yield a connection of the owner's beside the scheduler's own, which may be in the middle of a job."""
    connection = await database.connect(Login.OWNER, purpose="scheduler check")
    try:
        yield connection
    finally:
        await close_connection(connection)


def periodic_jobs(settings: Settings) -> list[Job]:
    """Return every periodic job."""
    registry = build_registry(settings)
    return [
        adopt_events(registry),
        release_stranded_messages(registry),
        make_day_partitions(settings.event_partitions_ahead),
        drop_expired_days(settings.event_retention_days),
        prune_log(settings.event_retention_days),
        prune_receipts(settings.receipt_retention_days),
        prune_edge(),
        vacuum_queues(),
        watch_transactions(settings),
        renew_tokens(settings),
        prune_admin_calls(settings),
        announce_installations(registry),
        begin_reconciliations(registry, settings),
        continue_imports(registry),
        verify_plans(settings),
        count_usage(),
        fulfil_compliance(settings, build_inventory(settings), build_vault(settings)),
    ]


def simulator(settings: Settings, listener: socket.socket) -> Serve:
    """Return the simulator role: a Shopify to develop against."""

    async def serve(stop: asyncio.Event) -> None:
        from sellflow.simulator.app import create_app  # noqa: PLC0415 - no other role needs it

        await serve_http(create_app(schema_dir=settings.shopify_schema_dir), listener, stop)

    return serve


def together(*parts: Serve) -> Serve:
    """Return several roles served in one process; when one ends, all do."""

    async def serve(stop: asyncio.Event) -> None:
        async def one(part: Serve) -> None:
            try:
                await part(stop)
            finally:
                stop.set()

        await asyncio.gather(*(one(part) for part in parts))

    return serve


@asynccontextmanager
async def operations(
    settings: Settings, health: Health, figures: Callable[[], Awaitable[Sequence[QueueFigures]]]
) -> AsyncIterator[None]:
    """Serve the operations port while the block runs, where it is open."""
    if settings.operations_port == 0:
        yield
        return
    from sellflow.status.endpoints import operations_app  # noqa: PLC0415 - an open port alone needs a framework
    from sellflow.status.queue_metrics import QueueMetrics  # noqa: PLC0415

    listener = bind(settings.operations_host, settings.operations_port, setting="SELLFLOW_OPERATIONS_PORT")
    closed = asyncio.Event()
    task = asyncio.create_task(serve_http(operations_app(health, QueueMetrics(figures)), listener, closed))
    try:
        yield
    finally:
        closed.set()
        await task
