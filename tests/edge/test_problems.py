"""Errors as problem+json."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

import httpx
import pytest
from fastapi import FastAPI, Query

from sellflow.edge.problems import Problem, answer_with_problems
from sellflow.errors import DatabaseUnavailableError


def application() -> FastAPI:
    app = FastAPI()
    answer_with_problems(app)

    @app.get("/number")
    async def number(limit: Annotated[int, Query(ge=1)]) -> int:
        return limit

    @app.get("/teapot")
    async def teapot() -> None:
        raise Problem(418, "tea.only", "No coffee here.", headers=[("retry-after", "60")])

    @app.get("/away")
    async def away() -> None:
        raise DatabaseUnavailableError("gone")

    @app.get("/refused")
    async def refused() -> None:
        raise ConnectionRefusedError

    return app


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(application())
    async with httpx.AsyncClient(transport=transport, base_url="http://edge") as found:
        yield found


async def test_a_problem_has_the_members_of_rfc_9457(client: httpx.AsyncClient) -> None:
    response = await client.get("/teapot")
    assert response.status_code == 418
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["retry-after"] == "60"
    assert response.json() == {
        "type": "/problems/tea.only",
        "title": "I'm a Teapot",
        "status": 418,
        "code": "tea.only",
        "detail": "No coffee here.",
    }


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "http.not_found"),
        ("POST", "/teapot", 405, "http.method_not_allowed"),
        ("GET", "/number", 400, "request.invalid"),
        ("GET", "/number?limit=0", 400, "request.invalid"),
        ("GET", "/number?limit=x", 400, "request.invalid"),
        ("GET", "/away", 503, "database.unavailable"),
        ("GET", "/refused", 503, "database.unavailable"),
    ],
)
async def test_every_error_is_a_problem(
    client: httpx.AsyncClient, method: str, path: str, status: int, code: str
) -> None:
    response = await client.request(method, path)
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert (response.status_code, body["status"], body["code"]) == (status, status, code)
    assert body["detail"].endswith(".")


async def test_a_wrong_method_is_told_the_right_one(client: httpx.AsyncClient) -> None:
    assert (await client.post("/teapot")).headers["allow"] == "GET"


async def test_a_wrong_value_is_named(client: httpx.AsyncClient) -> None:
    assert "query.limit" in (await client.get("/number?limit=0")).json()["detail"]


async def test_a_sender_is_told_when_to_come_back(client: httpx.AsyncClient) -> None:
    assert int((await client.get("/away")).headers["retry-after"]) > 0
