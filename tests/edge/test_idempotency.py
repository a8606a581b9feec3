"""Idempotency keys on a socket: what was asked twice is done once, whoever asks, however often, at once or later."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import httpx
import pytest
from pydantic import BaseModel

from sellflow.edge.callers import Caller
from sellflow.edge.idempotency import Once
from sellflow.edge.problems import Problem
from sellflow.edge.pruning import prune_edge
from sellflow.postgres.database import Connection, Database, Pool, SessionConnection
from sellflow.postgres.transactions import admin_transaction
from sellflow.secrets import build_vault
from tests.conftest import Tenant
from tests.edge.callers import merchant, service
from tests.edge.serving import serving

ENDPOINTS = "/admin/api/endpoints"
KEY = '"8e03978e-40d5-43e8-bc93-6894a57f9324"'
ONE = {"address": "https://one.example/", "topics": ["loyalty.#"]}
TWO = ONE | {"address": "https://two.example/"}


@pytest.fixture
async def client(database: Database, tenant: Tenant) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(database) as found:
        yield found


def keyed(headers: dict[str, str], key: str = KEY) -> dict[str, str]:
    return headers | {"idempotency-key": key}


async def count(owner: SessionConnection, table: str = "endpoints") -> int:
    return int(await owner.fetchval(f"SELECT count(*) FROM {table}"))


async def test_the_same_request_is_answered_the_same_and_done_once(
    client: httpx.AsyncClient, owner: SessionConnection, tenant: Tenant
) -> None:
    first = await client.post(ENDPOINTS, headers=keyed(merchant(tenant)), json=ONE)
    # A session token lasts a minute: who calls is what counts, not what they showed.
    again = await client.post(ENDPOINTS, headers=keyed(merchant(tenant, jti="another")), json=ONE)
    assert (first.status_code, first.content) == (again.status_code, again.content) == (201, first.content)
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert first.headers["content-type"] == again.headers["content-type"] == "application/json"
    assert await count(owner) == 1


async def test_quotes_around_the_key_make_no_difference(
    client: httpx.AsyncClient, owner: SessionConnection, tenant: Tenant
) -> None:
    for key in (KEY, KEY.strip('"')):
        assert (await client.post(ENDPOINTS, headers=keyed(merchant(tenant), key), json=ONE)).status_code == 201
    assert await count(owner) == 1


async def test_the_same_key_with_another_request_is_refused(
    client: httpx.AsyncClient, owner: SessionConnection, tenant: Tenant
) -> None:
    await client.post(ENDPOINTS, headers=keyed(merchant(tenant)), json=ONE)
    answer = await client.post(ENDPOINTS, headers=keyed(merchant(tenant)), json=TWO)
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency.key_reused")
    assert await count(owner) == 1


async def test_two_callers_and_two_routes_may_use_the_same_key(
    client: httpx.AsyncClient, owner: SessionConnection, tenant: Tenant, other_tenant: Tenant
) -> None:
    services = await service(owner, "endpoints:write"), await service(owner, "endpoints:write")
    found = [
        await client.post(ENDPOINTS, headers=keyed(merchant(tenant)), json=ONE),
        await client.post(ENDPOINTS, headers=keyed(merchant(tenant, sub="43")), json=TWO),
        await client.post(ENDPOINTS, headers=keyed(merchant(other_tenant)), json=ONE),
        await client.post("/v1/endpoints", headers=keyed(services[0]), json=ONE),
        await client.post("/v1/endpoints", headers=keyed(services[1]), json=TWO),
    ]
    assert [each.status_code for each in found] == [201] * 5
    path = f"{ENDPOINTS}/{found[0].json()['id']}/pause"
    assert (await client.post(path, headers=keyed(merchant(tenant)), json={})).status_code == 200
    assert await count(owner) == 5


async def test_twenty_at_once_are_done_once(
    client: httpx.AsyncClient, database: Database, owner: SessionConnection, tenant: Tenant
) -> None:
    async with serving(database) as another:
        answers = await asyncio.gather(
            *(each.post(ENDPOINTS, headers=keyed(merchant(tenant)), json=ONE) for each in (client, another) * 10)
        )
    statuses = Counter(each.status_code for each in answers)
    assert set(statuses) <= {201, 409}
    assert statuses[201] >= 1
    assert len({each.content for each in answers if each.status_code == 201}) == 1
    assert {each.json()["code"] for each in answers if each.status_code == 409} <= {"idempotency.in_progress"}
    assert await count(owner) == 1


async def test_what_is_no_key_is_refused(client: httpx.AsyncClient, tenant: Tenant) -> None:
    shown = merchant(tenant)["authorization"].encode()
    for key in ("", '""', "x" * 256, 'a"b', "a\tb", "é"):
        headers = [(b"idempotency-key", key.encode("latin-1")), (b"authorization", shown)]
        answer = await client.post(ENDPOINTS, headers=headers, json=ONE)
        assert (answer.status_code, answer.json()["code"]) == (400, "idempotency.invalid_key"), key


async def test_a_request_that_failed_stored_nothing_and_may_come_again(
    client: httpx.AsyncClient, owner: SessionConnection, tenant: Tenant
) -> None:
    bad = ONE | {"address": "http://10.0.0.1/"}
    assert (await client.post(ENDPOINTS, headers=keyed(merchant(tenant)), json=bad)).status_code == 400
    assert (await client.post(ENDPOINTS, headers=keyed(merchant(tenant)), json=ONE)).status_code == 201
    assert await count(owner) == 1


async def test_nothing_of_an_answer_or_its_key_stands_in_the_database(
    client: httpx.AsyncClient, owner: SessionConnection, tenant: Tenant
) -> None:
    made = (await client.post(ENDPOINTS, headers=keyed(merchant(tenant)), json=ONE)).json()
    stored = await owner.fetchval("SELECT encode(answer, 'escape') || k::text FROM idempotency_keys k")
    for secret in (made["secret"], made["secret"].removeprefix("whsec_")[:20], KEY.strip('"')):
        assert secret not in stored


class Said(BaseModel):
    """An answer."""

    number: int


class Lab:
    """Runs work under one key, without HTTP around it."""

    def __init__(self, pool: Pool, database: Database, tenant: Tenant) -> None:
        self.pool = pool
        self.caller = Caller(tenant.shop_id, "merchant:1")
        self.once = Once("POST /lab", bytes(32), "a-key", build_vault(database.settings))
        self.runs = 0

    async def run(self, *, crash: bool = False, wait: asyncio.Event | None = None) -> bytes:
        async def work(connection: Connection) -> Said:
            self.runs += 1
            await connection.execute(
                "INSERT INTO endpoints (shop_id, kind, address, topics) VALUES ($1, 'webhook', 'https://x', '{#}')",
                self.caller.shop_id,
            )
            if wait is not None:
                await wait.wait()
            if crash:
                raise ZeroDivisionError
            return Said(number=self.runs)

        answer = await self.once.run(self.caller, admin_transaction(self.pool, self.caller.shop_id), work)
        return bytes(answer.body)


@pytest.fixture
def lab(admin_pool: Pool, database: Database, tenant: Tenant) -> Lab:
    return Lab(admin_pool, database, tenant)


async def test_a_crash_in_between_leaves_neither_effect_nor_answer(lab: Lab, owner: SessionConnection) -> None:
    with pytest.raises(ZeroDivisionError):
        await lab.run(crash=True)
    assert await count(owner) == await count(owner, "idempotency_keys") == 0
    assert await lab.run() == b'{"number":2}'
    assert await lab.run() == b'{"number":2}'
    assert (lab.runs, await count(owner)) == (2, 1)


async def test_while_one_is_under_way_another_is_told_to_wait_and_does_not_hold_a_connection(
    lab: Lab, owner: SessionConnection
) -> None:
    go_on = asyncio.Event()
    first = asyncio.create_task(lab.run(wait=go_on))
    while lab.runs == 0:  # noqa: ASYNC110 - the work says so itself
        await asyncio.sleep(0)
    for _ in range(20):
        with pytest.raises(Problem) as caught:
            await lab.run()
        assert (caught.value.status, caught.value.code) == (409, "idempotency.in_progress")
    go_on.set()
    assert await first == await lab.run() == b'{"number":1}'
    assert await count(owner) == 1


async def test_a_process_that_dies_lets_its_key_go(lab: Lab, owner: SessionConnection) -> None:
    first = asyncio.create_task(lab.run(wait=asyncio.Event()))
    while lab.runs == 0:  # noqa: ASYNC110 - the work says so itself
        await asyncio.sleep(0)
    await owner.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'sellflow_admin'")
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert await lab.run() == b'{"number":2}'
    assert await count(owner) == 1


async def test_after_a_day_a_key_is_a_new_one_and_a_job_forgets_it(lab: Lab, owner: SessionConnection) -> None:
    await lab.run()
    await owner.execute("UPDATE idempotency_keys SET created_at = created_at - interval '23 hours'")
    assert "0 idempotency keys" in await prune_edge().run(owner)
    assert await lab.run() == b'{"number":1}'
    await owner.execute("UPDATE idempotency_keys SET created_at = created_at - interval '2 hours'")
    await owner.execute("DELETE FROM endpoints")
    assert await lab.run() == b'{"number":2}'
    await owner.execute("UPDATE idempotency_keys SET created_at = created_at - interval '25 hours'")
    assert "1 idempotency keys" in await prune_edge().run(owner)
    assert await count(owner, "idempotency_keys") == 0
