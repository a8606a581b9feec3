"""The guide to background services: its code is taken from the page and run, so that it stays true."""

from __future__ import annotations

import asyncio
import importlib
import re
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from sellflow import roles
from sellflow.postgres.database import Database, Login, Pool, SessionConnection
from sellflow.postgres.opening import prepare
from tests.conftest import Tenant
from tests.edge.serving import serving, with_settings
from tests.queue.consuming import drain
from tests.webhooks.deliveries import Shopify, order_body

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "background-service.md"
FILES = re.compile(r"^```python (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PATIENCE = 20


class PrintShop:
    """Somebody outside, who is busy at first."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.statuses = [429]

    async def order(self, request: Request) -> Response:
        self.keys.append(request.headers["idempotency-key"])
        if self.statuses:
            return Response(status_code=self.statuses.pop(0), headers={"Retry-After": "1"})
        return PlainTextResponse(f"card {len(self.keys)}")


@pytest.fixture
async def print_shop(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PrintShop]:
    shop = PrintShop()
    listener = roles.bind("127.0.0.1", 0, setting="none")
    monkeypatch.setenv("ACME_PRINT_SHOP", f"http://127.0.0.1:{listener.getsockname()[1]}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    stop = asyncio.Event()
    app = Starlette(routes=[Route("/cards", shop.order, methods=["POST"])])
    server = asyncio.create_task(roles.serve_http(app, listener, stop))
    yield shop
    stop.set()
    await server


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The guide's files, where Python finds them."""
    files = dict(FILES.findall(GUIDE.read_text(encoding="utf-8")))
    assert list(files) == ["acme_gifts.py", "test_acme_gifts.py", "acme_cards.py"]
    for name, code in files.items():
        (tmp_path / name).write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    names = [Path(name).stem for name in files]
    yield names
    for name in names:
        sys.modules.pop(name, None)


@pytest.fixture
async def installation(database: Database, print_shop: PrintShop, modules: list[str]) -> Database:
    """An installation with the guide's services, migrated twice, as every start may do."""
    installed = with_settings(database, services="acme_gifts, acme_cards", worker_poll_interval=0.05)
    for _ in range(2):
        await prepare(installed, roles.prepare_above(installed.settings))
    return installed


@asynccontextmanager
async def working(installation: Database, *queues: str) -> AsyncIterator[None]:
    """Run a worker as `sellflow worker --queues …` does."""
    stop = asyncio.Event()
    worker = asyncio.ensure_future(roles.worker(installation, queues)(stop))
    try:
        yield
    finally:
        stop.set()
        await worker


async def until(connection: SessionConnection, question: str, answer: object) -> None:
    """Wait until a query answers as expected."""
    async with asyncio.timeout(PATIENCE):
        while await connection.fetchval(question) != answer:  # noqa: ASYNC110 - a worker writes it
            await asyncio.sleep(0.02)


async def test_an_order_becomes_points_a_gift_and_a_card_each_once(
    installation: Database, owner: SessionConnection, tenant: Tenant, print_shop: PrintShop
) -> None:
    async with serving(installation) as client, working(installation, "gifts", "cards"):
        async with working(installation, "loyalty"):
            shopify = Shopify(client)
            for topic in ("orders/create", "orders/paid", "orders/paid"):
                answer = await shopify.deliver(order_body(1, subtotal_price="120.00"), topic=topic)
                assert answer.status_code == 200
            await shopify.deliver(order_body(2, subtotal_price="99.00", customer={"id": 8}))
            await shopify.deliver(order_body(3, subtotal_price="30.00"))
            await until(owner, "SELECT count(*) FROM outcomes WHERE queue = 'gifts'", 3)
        await until(owner, "SELECT count(*) FROM parked_messages WHERE queue = 'cards'", 1)
        await owner.execute("UPDATE parked_messages SET due_at = clock_timestamp()")
        await until(owner, "SELECT count(*) FROM cards.orders", 1)
    gifts = await owner.fetch("SELECT shop_id, customer_id FROM gifts.welcome_gifts")
    assert [tuple(row) for row in gifts] == [(tenant.shop_id, 7)]
    assert await owner.fetchval("SELECT order_number FROM cards.orders") == "card 2"
    assert len(print_shop.keys) == 2, "the print shop was busy once"
    assert len(set(print_shop.keys)) == 1, "a repeated call has the key of the first"
    told = await owner.fetchval("SELECT detail FROM outcomes WHERE queue = 'gifts' AND detail <> '' LIMIT 1")
    assert told == "customer 7 had reached 100 points"


async def test_a_service_sees_no_shop_but_those_of_its_batch(
    installation: Database, worker_pool: Pool, owner: SessionConnection, tenant: Tenant
) -> None:
    await owner.execute("INSERT INTO gifts.welcome_gifts (shop_id, customer_id) VALUES ($1, 7)", tenant.shop_id)
    assert await worker_pool.fetchval("SELECT count(*) FROM gifts.welcome_gifts") == 0


async def test_a_card_that_the_print_shop_refuses_is_a_dead_letter_at_once(
    installation: Database, worker_pool: Pool, owner: SessionConnection, tenant: Tenant, print_shop: PrintShop
) -> None:
    print_shop.statuses = [422]
    async with serving(installation) as client:
        await Shopify(client).deliver(order_body(1, subtotal_price="120.00"))
    await drain(installation, worker_pool, roles.build_registry(installation.settings))
    letter = await owner.fetchrow("SELECT queue, handler, error_code, attempts FROM dead_letters")
    assert letter is not None
    assert tuple(letter) == ("cards", "record_orders", "handler.permanent", 1)


async def test_the_test_in_the_guide_passes(installation: Database, tenant: Tenant) -> None:
    connection = await installation.connect(Login.OWNER, purpose="test")
    await importlib.import_module("test_acme_gifts").test_a_customer_gets_one_gift_whatever_is_told_twice(connection)
    await connection.close()


@pytest.mark.parametrize("command", re.findall(r"^sellflow (\w+)", GUIDE.read_text(encoding="utf-8"), re.MULTILINE))
def test_the_guide_names_commands_that_exist(command: str) -> None:
    from sellflow.cli import app  # noqa: PLC0415 - the command line's own imports

    groups = {group.name for group in app.registered_groups}
    assert command in groups | {each.name for each in app.registered_commands}
