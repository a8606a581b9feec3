"""The process roles: ports, refusals at the start, and how they end."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace

import httpx
import pytest

from sellflow import roles
from sellflow.errors import ConfigurationError, DatabaseUnavailableError, MigrationError, PortTakenError
from sellflow.postgres.database import Database, SessionConnection
from sellflow.settings import Settings


def taken_port() -> socket.socket:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.listen()
    return listener


def with_free_operations_port(settings: Settings) -> Settings:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return settings.model_copy(update={"operations_port": probe.getsockname()[1]})


def test_a_taken_port_is_named_with_the_setting_that_changes_it() -> None:
    with taken_port() as other:
        port = other.getsockname()[1]
        with pytest.raises(PortTakenError, match=f"port {port} on 127.0.0.1 .* set SELLFLOW_WEB_PORT"):
            roles.bind("127.0.0.1", port, setting="SELLFLOW_WEB_PORT")


def test_an_address_that_is_not_ours_is_named_with_its_setting() -> None:
    with pytest.raises(ConfigurationError, match=r"192\.0\.2\.1:0 cannot be listened on .* set SELLFLOW_WEB_PORT"):
        roles.bind("192.0.2.1", 0, setting="SELLFLOW_WEB_PORT")


def test_a_host_without_the_family_of_its_address_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "AF_INET6", 9999)  # as on a machine without IPv6
    with pytest.raises(ConfigurationError, match=r"cannot be listened on .* set SELLFLOW_WEB_PORT"):
        roles.bind("::1", 0, setting="SELLFLOW_WEB_PORT")


def test_a_port_is_free_again_as_soon_as_its_listener_is_closed() -> None:
    with roles.bind("127.0.0.1", 0, setting="SELLFLOW_WEB_PORT") as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            pass
    with roles.bind("127.0.0.1", port, setting="SELLFLOW_WEB_PORT"):
        pass


async def test_a_worker_refuses_a_queue_that_does_not_exist(database: Database) -> None:
    with pytest.raises(ConfigurationError, match=r"no queue loyalti, stock \(known: loyalty, shops, .*\)"):
        await roles.worker(database, ["stock", "loyalty", "loyalti"])(asyncio.Event())


async def test_no_role_serves_another_schema_than_its_own(database: Database, owner: SessionConnection) -> None:
    await owner.execute("UPDATE schema_version SET version_num = '0003_queue'")
    with roles.bind("127.0.0.1", 0, setting="SELLFLOW_WEB_PORT") as listener:
        for role in (roles.web(database, listener), roles.worker(database), roles.scheduler(database)):
            with pytest.raises(MigrationError, match="sellflow migrate"):
                await role(asyncio.Event())


async def test_a_role_without_a_database_says_so(database: Database) -> None:
    nowhere = replace(database, session_url="postgresql:///sellflow?host=/nonexistent")
    with pytest.raises(DatabaseUnavailableError, match="cannot be reached as sellflow_worker"):
        await roles.worker(nowhere)(asyncio.Event())


async def test_web_is_ready_while_the_database_answers_and_ends_when_it_is_told_to(database: Database) -> None:
    stop = asyncio.Event()
    listener = roles.bind("127.0.0.1", 0, setting="SELLFLOW_WEB_PORT")
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    serving = asyncio.ensure_future(roles.web(database, listener)(stop))
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=10) as client:
        ready = await client.get("/readyz")  # the socket listens already: the answer comes when the role serves
        alive = await client.get("/healthz")
        metrics = await client.get("/metrics")
    assert (ready.status_code, ready.json()) == (200, {"status": "ready"})
    assert alive.status_code == 200
    assert metrics.status_code == 404, "metrics are never served on the public port"
    stop.set()
    await asyncio.wait_for(serving, timeout=10)


@pytest.mark.parametrize("role", ["worker", "scheduler"])
async def test_a_role_without_a_port_of_its_own_is_watched_on_the_operations_port(
    database: Database, role: str
) -> None:
    settings = with_free_operations_port(database.settings)
    watched = replace(database, settings=settings)
    stop = asyncio.Event()
    serve = roles.worker(watched) if role == "worker" else roles.scheduler(watched)
    serving = asyncio.ensure_future(serve(stop))
    url = f"http://127.0.0.1:{settings.operations_port}"
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=10) as client:
        ready = await answer(client, "/readyz")
        metrics = await client.get("/metrics")
    assert (ready.status_code, ready.json()) == (200, {"status": "ready"})
    assert "sellflow_messages_handled_total" in metrics.text
    stop.set()
    await asyncio.wait_for(serving, timeout=10)


async def answer(client: httpx.AsyncClient, path: str) -> httpx.Response:
    """Return the first answer of a server that is about to listen."""
    async with asyncio.timeout(10):
        while True:
            try:
                return await client.get(path)
            except httpx.ConnectError:
                await asyncio.sleep(0)


async def test_roles_in_one_process_end_together() -> None:
    ended: list[str] = []

    async def waits(stop: asyncio.Event) -> None:
        await stop.wait()
        ended.append("waits")

    async def returns(_stop: asyncio.Event) -> None:
        ended.append("returns")

    stop = asyncio.Event()
    await asyncio.wait_for(roles.together(waits, returns)(stop), timeout=10)
    assert ended == ["returns", "waits"]
    assert stop.is_set()


async def test_a_role_that_fails_takes_its_process_with_it() -> None:
    async def waits(stop: asyncio.Event) -> None:
        await stop.wait()

    async def fails(_stop: asyncio.Event) -> None:
        raise LookupError("it cannot work")

    with pytest.raises(LookupError, match="it cannot work"):
        await asyncio.wait_for(roles.together(waits, fails)(asyncio.Event()), timeout=10)
