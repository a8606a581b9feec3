"""Calling the simulator from a command: register a shop, play a run to its end, read what it sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import TypeVar

import httpx
from pydantic import BaseModel

from sellflow.errors import NotFoundError, SellflowError
from sellflow.simulator.errors import RefusedError, SimulatorUnavailableError
from sellflow.simulator.oauth.schemas import AppInput, InstallInput
from sellflow.simulator.schemas import (
    FinalOrder,
    RunPlan,
    RunStarted,
    RunStatus,
    SentWebhook,
    ShopInput,
)

Line = TypeVar("Line", bound=BaseModel)

POLL_SECONDS = 0.25


async def register_shop(base_url: str, domain: str, shop: ShopInput) -> None:
    """Register a shop, or change where its webhooks go.

    Raises
    ------
    RefusedError
        If the simulator refuses it.
    SimulatorUnavailableError
        If the simulator does not answer.
    """
    async with connected(base_url) as client:
        await call(client, "PUT", f"/shops/{domain}", shop)


async def install_app(base_url: str, domain: str, client_id: str, app: AppInput) -> None:
    """Register an app, or change it, and install it in a shop; raises as `play_run` does."""
    async with connected(base_url) as client:
        await call(client, "PUT", f"/apps/{client_id}", app)
        await call(client, "POST", f"/shops/{domain}/install", InstallInput(client_id=client_id))


async def customers(base_url: str, domain: str) -> list[int]:
    """Return the ids of a shop's customers; raises as `play_run` does."""
    async with connected(base_url) as client:
        listed = json.loads(await call(client, "GET", f"/shops/{domain}/customers"))
    return [customer["id"] for customer in listed["customers"]]


async def play_run(base_url: str, domain: str, plan: RunPlan, on_progress: Callable[[RunStatus], None]) -> RunStatus:
    """Start a run and follow it to its end, calling `on_progress` at every look.

    Raises
    ------
    NotFoundError
        If there is no such shop.
    RefusedError
        If the simulator refuses the plan.
    SimulatorUnavailableError
        If the simulator does not answer.
    """
    async with connected(base_url) as client:
        answer = await call(client, "POST", f"/shops/{domain}/runs", plan)
        run_id = RunStarted.model_validate_json(answer).run_id
        while True:
            status = RunStatus.model_validate_json(await call(client, "GET", f"/runs/{run_id}"))
            on_progress(status)
            if status.state != "running":
                return status
            await asyncio.sleep(POLL_SECONDS)


async def sent(base_url: str, run_id: str) -> list[SentWebhook]:
    """Return every webhook that a run meant to send; raises as `play_run` does."""
    return await _lines(base_url, f"/runs/{run_id}/sent", SentWebhook)


async def final_orders(base_url: str, run_id: str) -> list[FinalOrder]:
    """Return the orders of a run as the simulator knows them; raises as `play_run` does."""
    return await _lines(base_url, f"/runs/{run_id}/orders", FinalOrder)


def connected(base_url: str) -> httpx.AsyncClient:
    """Return a client of a simulator."""
    # A proxy set in the environment must not get between two programs on this machine.
    return httpx.AsyncClient(base_url=base_url, timeout=30, trust_env=False)


async def _lines(base_url: str, path: str, model: type[Line]) -> list[Line]:
    async with connected(base_url) as client:
        body = await call(client, "GET", path)
    return [model.model_validate_json(line) for line in body.splitlines()]


async def call(client: httpx.AsyncClient, method: str, path: str, message: BaseModel | None = None) -> bytes:
    """Return the body of an answer.

    Raises
    ------
    NotFoundError
        If what the path names does not exist.
    RefusedError
        If the simulator refuses the message.
    SimulatorUnavailableError
        If the simulator does not answer.
    """
    body = message.model_dump_json() if message else None
    try:
        answer = await client.request(method, path, content=body)
    except httpx.HTTPError as error:
        raise SimulatorUnavailableError(
            f"the simulator at {client.base_url} did not answer: {error}; is it running there?"
        ) from error
    if answer.is_success:
        return answer.content
    raise _refusal(answer)


def _refusal(answer: httpx.Response) -> SellflowError:
    if answer.status_code == 404:
        return NotFoundError(answer.json()["error"])
    if answer.status_code < 500:
        return RefusedError(answer.json()["error"])
    return SimulatorUnavailableError(f"{answer.url} answered {answer.status_code}")
