"""What every answer gets, and how much may be sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from sellflow.postgres.database import Database
from tests.conftest import Tenant
from tests.edge.callers import merchant
from tests.edge.serving import serving, with_settings

ENDPOINTS = "/admin/api/endpoints"


@pytest.fixture
async def client(database: Database, tenant: Tenant) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(with_settings(database, request_max_body_bytes=2000)) as found:
        yield found


async def test_a_page_keeps_its_own_policy(client: httpx.AsyncClient) -> None:
    assert "script-src 'self'" in (await client.get("/")).headers["content-security-policy"]


@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
async def test_no_other_origin_may_read_an_answer(client: httpx.AsyncClient, tenant: Tenant, method: str) -> None:
    asked = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    answer = await client.request(method, "/admin/api/session", headers=merchant(tenant) | asked)
    assert not [name for name in answer.headers if name.startswith("access-control-")]


async def test_a_body_that_is_announced_too_large_is_not_read(client: httpx.AsyncClient, tenant: Tenant) -> None:
    answer = await client.post(ENDPOINTS, headers=merchant(tenant), content=b"x" * 2001)
    assert (answer.status_code, answer.json()["code"]) == (413, "request.too_large")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_a_body_that_grows_too_large_is_cut_off(client: httpx.AsyncClient, tenant: Tenant) -> None:
    reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
    try:
        head = f"POST {ENDPOINTS} HTTP/1.1\r\nhost: test\r\nauthorization: {merchant(tenant)['authorization']}\r\n"
        writer.write(head.encode() + b"content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
        # Two chunks of 2000 bytes, and no end.
        for _ in range(2):
            writer.write(b"7d0\r\n" + b"x" * 2000 + b"\r\n")
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"request.too_large" in await reader.readuntil(b"}")
    finally:
        writer.transport.abort()


async def test_rubbish_is_a_problem(client: httpx.AsyncClient, tenant: Tenant) -> None:
    headers = merchant(tenant) | {"content-type": "application/json"}
    usual = b'{"address":"https://x.example/","topics":["#"],'
    for body in (
        b"",
        b"{",
        b"[" * 1900,
        b"null",
        b"[]",
        b'"text"',
        b"\xff\xfe",
        b'{"address": 7}',
        usual + b'"extra":1}',
        usual + b'"description":"\\u0000"}',
        usual + b'"description":"\\ud800"}',
    ):
        answer = await client.post(ENDPOINTS, headers=headers, content=body)
        assert answer.status_code == 400, (body, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"


async def test_every_answer_keeps_browsers_in_check(client: httpx.AsyncClient) -> None:
    for path in ("/admin/api/session", "/v1/loyalty", "/nowhere", "/openapi.json", "/healthz"):
        answer = await client.get(path)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
