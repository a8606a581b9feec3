"""`make soak`: many processes spend one shop's points while a stranger takes some, and nothing goes to waste.

Client processes with a backlog call a simulated Shopify that starts with an empty bucket. Every so often a foreign user
of the app takes all there is. Meanwhile somebody at a screen wants answers. Measured at the simulator: which part of
the points left to us was used, and how many calls were throttled; and in the clients, how long the screen waited.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import random
import secrets
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from sellflow.logs import configure_logging
from sellflow.postgres.database import Database, Login, close_pool
from sellflow.postgres.transactions import of_worker
from sellflow.roles import bind, run, simulator
from sellflow.settings import load_settings
from sellflow.shopify.admin.client import AdminClient
from sellflow.shopify.admin.errors import AdminError
from sellflow.shopify.admin.throttle import Urgency
from sellflow.shopify.documents.customers import CUSTOMERS
from sellflow.shopify.documents.installation import CURRENT_APP_INSTALLATION, SHOP
from sellflow.shopify.documents.orders import ORDER_REVISIONS
from sellflow.shopify.tokens.models import Access
from tests.conftest import cloned_database, make_tenant, running_server, settings_for

DOMAIN = "acme.myshopify.com"
CONTROL = f"/shops/{DOMAIN}/admin-api"

#: Seconds that processes may take to load what they need, on a machine that has other work.
START_WITHIN = 300.0

#: Seconds after a drain in which a throttled call may be put down to it.
REACTION = 1.0

#: How long the screen waited each time, and what went wrong.
Found = tuple[list[float], list[str]]

#: What the backlog asks for: cheap and dear, much and little of it given back.
BACKLOG: list[tuple[Any, dict[str, Any]]] = [
    (SHOP, {}),
    (CURRENT_APP_INSTALLATION, {}),
    (CUSTOMERS, {"first": 5, "sortKey": "UPDATED_AT"}),
    (CUSTOMERS, {"first": 12, "sortKey": "ID"}),
    (ORDER_REVISIONS, {"first": 4, "refunds": 10, "sortKey": "UPDATED_AT"}),
]


@dataclass(frozen=True)
class Plan:
    """How long, how many, and how much."""

    seconds: float = 60.0
    processes: int = 8
    callers: int = 3
    rate: float = 100.0
    maximum: float = 2000.0
    drain_every: float = 10.0
    #: Seconds between two calls of all screens together.
    screen_every: float = 0.25


@dataclass(frozen=True)
class Outcome:
    """What was measured."""

    seconds: float
    processes: int
    calls: int
    points_left_to_us: float
    points_used: float
    used_share: float
    drains: int
    drained: float
    throttled: int
    #: Of those, the most that one drain brought about, and those that none did.
    throttled_by_one_drain: int
    throttled_by_none: int
    screen_calls: int
    screen_p50: float
    screen_p95: float
    screen_max: float
    errors: int

    @property
    def holds(self) -> bool:
        """Whether the limits hold that the issue sets."""
        is_used = self.used_share >= 0.98
        is_expected = self.throttled_by_one_drain <= 1 and self.throttled_by_none == 0
        return is_used and is_expected and self.screen_p95 < 1.0 and not self.errors


@dataclass(frozen=True)
class Client:
    """What a client process is given."""

    database_url: str
    folder: str
    shopify_url: str
    token: str
    shop_id: int
    plan: Plan


class _OneToken:
    def __init__(self, client: Client) -> None:
        self._access = Access(client.shop_id, DOMAIN, client.shopify_url, client.token, frozenset())

    async def get(self, _shop_id: int) -> Access:
        return self._access

    async def renew(self, _shop_id: int, _refused: str) -> Access:
        return self._access


@asynccontextmanager
async def admin_client(client: Client) -> AsyncIterator[AdminClient]:
    """Yield a client under the worker's login."""
    settings = settings_for(Path(client.folder))
    database = Database(client.database_url, client.database_url, settings)
    pool = await database.pool(Login.WORKER, purpose="soak", size=4)
    made = AdminClient(transactions=of_worker(pool), tokens=_OneToken(client), settings=settings)
    try:
        yield made
    finally:
        await made.close()
        await close_pool(pool)


def client_process(client: Client, ready: Barrier, go: Event, results: Queue[Found]) -> None:
    """Work off the backlog, and look at the screen now and then, until the time is up."""
    configure_logging(settings_for(Path(client.folder)))
    results.put(asyncio.run(_work(client, ready, go)))


async def _work(client: Client, ready: Barrier, go: Event) -> Found:
    waits: list[float] = []
    errors: list[str] = []
    async with admin_client(client) as admin:
        await _warm(admin, client)
        await asyncio.to_thread(ready.wait, START_WITHIN)
        await asyncio.to_thread(go.wait, START_WITHIN)
        ends_at = time.monotonic() + client.plan.seconds
        tasks = [_backlog(admin, client, ends_at, errors) for _ in range(client.plan.callers)]
        await asyncio.gather(*tasks, _screen(admin, client, ends_at, waits, errors))
    return waits, errors


async def _backlog(admin: AdminClient, client: Client, ends_at: float, errors: list[str]) -> None:
    while time.monotonic() < ends_at:
        document, variables = random.choice(BACKLOG)
        try:
            async with asyncio.timeout(ends_at - time.monotonic()):
                await admin.fetch(client.shop_id, document, variables, urgency=Urgency.BACKGROUND)
        except TimeoutError:
            return
        except AdminError as error:
            errors.append(f"{error.code}: {error}")


async def _screen(admin: AdminClient, client: Client, ends_at: float, waits: list[float], errors: list[str]) -> None:
    pause = client.plan.screen_every * client.plan.processes
    await asyncio.sleep(random.uniform(0, pause))
    while time.monotonic() < ends_at - 1:
        started = time.monotonic()
        try:
            await admin.fetch(client.shop_id, SHOP, urgency=Urgency.FOREGROUND)
            waits.append(time.monotonic() - started)
        except AdminError as error:
            errors.append(f"{error.code}: {error}")
        await asyncio.sleep(random.expovariate(1 / pause))


def simulator_process(port: int) -> None:
    """Serve the simulated Shopify."""
    run(simulator(load_settings(), bind("127.0.0.1", port, setting="SELLFLOW_SIMULATOR_PORT")))


async def soak(plan: Plan, server_url: str, folder: Path) -> Outcome:
    """Run a soak on a database of its own."""
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(cloned_database(server_url, settings_for(folder)))
        owner = await database.connect(Login.OWNER, purpose="soak")
        stack.push_async_callback(owner.close)
        tenant = await make_tenant(owner, "acme")
        http = await stack.enter_async_context(_shopify())
        token = await _furnish(http, plan)
        client = Client(
            database_url=database.pooled_url,
            folder=str(folder),
            shopify_url=f"{http.base_url}/shops/{DOMAIN}".replace("//shops", "/shops"),
            token=token,
            shop_id=tenant.shop_id,
            plan=plan,
        )
        async with admin_client(client) as admin:
            await _warm(admin, client)
        return await _measure(client, http)


@asynccontextmanager
async def _shopify() -> AsyncIterator[httpx.AsyncClient]:
    """Run a simulator in a process of its own."""
    listener = bind("127.0.0.1", 0, setting="SELLFLOW_SIMULATOR_PORT")
    port = listener.getsockname()[1]
    listener.close()
    process = multiprocessing.get_context("spawn").Process(target=simulator_process, args=(port,))
    process.start()
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as http:
            await _until_up(http)
            yield http
    finally:
        process.terminate()
        process.join()


async def _until_up(http: httpx.AsyncClient) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                await http.get("/healthz")
            except httpx.TransportError:
                await asyncio.sleep(0.1)
            else:
                return


async def _furnish(http: httpx.AsyncClient, plan: Plan) -> str:
    """Make the shop, and return a token for it."""
    await _do(http, "PUT", f"/shops/{DOMAIN}", webhook_url="http://127.0.0.1:9/", client_secret="hush", customers=30)
    for _ in range(10):
        await _do(http, "POST", f"/shops/{DOMAIN}/orders")
    made = await _do(http, "POST", f"/shops/{DOMAIN}/access-token", scopes=["read_orders", "read_customers"])
    await _do(http, "PUT", f"{CONTROL}/bucket", restore_rate=plan.rate, maximum=plan.maximum)
    return str(made["access_token"])


async def _do(http: httpx.AsyncClient, method: str, path: str, **body: object) -> dict[str, Any]:
    answer = await http.request(method, path, json=body)
    assert answer.is_success, f"{method} {path}: {answer.text}"
    found: dict[str, Any] = answer.json()
    return found


async def _warm(admin: AdminClient, client: Client) -> None:
    """Ask for everything once: what is to be loaded is loaded then, and what it costs is known."""
    for document, variables in BACKLOG:
        await admin.fetch(client.shop_id, document, variables, urgency=Urgency.BACKGROUND)


async def _measure(client: Client, http: httpx.AsyncClient) -> Outcome:
    plan, context = client.plan, multiprocessing.get_context("spawn")
    ready, go = context.Barrier(plan.processes + 1), context.Event()
    results: Queue[Found] = context.Queue()
    clients = [context.Process(target=client_process, args=(client, ready, go, results)) for _ in range(plan.processes)]
    for process in clients:
        process.start()
    await asyncio.to_thread(ready.wait, START_WITHIN)
    # An empty bucket, and books that know of it: this first drain is not counted.
    await _do(http, "PUT", f"{CONTROL}/bucket", level=0)
    async with admin_client(client) as admin:
        await admin.fetch(client.shop_id, SHOP)
    await _do(http, "PUT", f"{CONTROL}/bucket", level=0)
    await _do(http, "DELETE", f"{CONTROL}/calls")
    before = await _do(http, "GET", CONTROL)
    await _do(http, "POST", f"{CONTROL}/drain", points=plan.maximum, every=plan.drain_every)
    go.set()
    await asyncio.sleep(plan.seconds)
    after = await _do(http, "GET", CONTROL)
    await _do(http, "POST", f"{CONTROL}/drain", points=0)
    found = [await asyncio.to_thread(results.get, True, START_WITHIN) for _ in clients]
    for process in clients:
        await asyncio.to_thread(process.join)
    calls = await http.get(f"{CONTROL}/calls")
    return _outcome(plan, before, after, [json.loads(line) for line in calls.text.splitlines()], found)


def _outcome(
    plan: Plan,
    before: dict[str, Any],
    after: dict[str, Any],
    calls: list[dict[str, Any]],
    found: list[Found],
) -> Outcome:
    """Count what arrived between the two looks at the simulator."""
    [was], [is_now] = before["buckets"].values(), after["buckets"].values()
    seconds = after["at"] - before["at"]
    within = [each for each in calls if before["at"] <= each["at"] <= after["at"]]
    drained = is_now["drained"] - was["drained"]
    left = was["level"] + is_now["restore_rate"] * seconds - drained
    used = sum(each["actual"] for each in within)
    by_drain = Counter(_drain_before(each["at"], is_now) for each in within if each["outcome"] == "throttled")
    waits = sorted(wait for each, _ in found for wait in each)
    errors = [error for _, each in found for error in each]
    for error in sorted(set(errors))[:5]:
        print(error, file=sys.stderr)  # noqa: T201 - for whoever reads the figures
    return Outcome(
        seconds=round(seconds, 2),
        processes=plan.processes,
        calls=len(within),
        points_left_to_us=round(left, 1),
        points_used=round(used, 1),
        used_share=round(used / left, 4),
        drains=is_now["drains"] - was["drains"],
        drained=round(drained, 1),
        throttled=by_drain.total(),
        throttled_by_one_drain=max((count for drain, count in by_drain.items() if drain is not None), default=0),
        throttled_by_none=by_drain[None],
        screen_calls=len(waits),
        screen_p50=round(_quantile(waits, 0.5), 3),
        screen_p95=round(_quantile(waits, 0.95), 3),
        screen_max=round(waits[-1] if waits else 0.0, 3),
        errors=len(errors),
    )


def _drain_before(moment: float, bucket: dict[str, Any]) -> float | None:
    """Return when the drain was that a throttled call met; None where there was none just before."""
    before = [each["at"] for each in bucket["last_drains"] if moment - REACTION <= each["at"] <= moment]
    return max(before, default=None)


def _quantile(values: list[float], share: float) -> float:
    return values[min(int(len(values) * share), len(values) - 1)] if values else 0.0


def show(outcome: Outcome) -> None:
    """Print the figures for people, and one line of JSON for machines."""
    table = Table("Figure", "Value", title="Points of one shop, spent by many processes")
    for name, value in asdict(outcome).items():
        table.add_row(name.replace("_", " "), f"{value:,}")
    Console(stderr=True).print(table)
    print(json.dumps(asdict(outcome)))  # noqa: T201 - for a machine


def main() -> None:
    """Run the soak; a limit that does not hold fails the command."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=Plan.seconds)
    parser.add_argument("--processes", type=int, default=Plan.processes)
    parser.add_argument("--drain-every", type=float, default=Plan.drain_every)
    arguments = parser.parse_args()
    configure_logging(load_settings(log_level="error"))
    folder = Path(tempfile.mkdtemp(prefix=f"sellflow-soak-{secrets.token_hex(2)}"))
    folder.chmod(0o711)
    try:
        with running_server(folder) as url:
            plan = Plan(arguments.seconds, arguments.processes, drain_every=arguments.drain_every)
            outcome = asyncio.run(soak(plan, url, folder))
    finally:
        shutil.rmtree(folder)
    show(outcome)
    sys.exit(not outcome.holds)


if __name__ == "__main__":
    main()
