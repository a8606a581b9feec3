"""The client plays a run against a simulator that runs under uvicorn."""

from __future__ import annotations

import pytest

from sellflow.errors import NotFoundError
from sellflow.simulator import client
from sellflow.simulator.errors import RefusedError, SimulatorUnavailableError
from sellflow.simulator.schemas import Faults, RunPlan, RunStatus, ShopInput

from .conftest import DOMAIN, SECRET
from .receiver import Receiver


def shop(receiver: Receiver, **fields: object) -> ShopInput:
    wanted = {"webhook_url": receiver.url, "client_secret": SECRET}
    return ShopInput.model_validate(wanted | fields)


async def test_a_run_is_followed_to_its_end(base_url: str, receiver: Receiver) -> None:
    progress: list[RunStatus] = []
    await client.register_shop(base_url, DOMAIN, shop(receiver))
    plan = RunPlan(count=10, seed=1, faults=Faults(duplicate=0.5), time_compression=1000)
    status = await client.play_run(base_url, DOMAIN, plan, progress.append)
    sent = await client.sent(base_url, status.run_id)
    orders = await client.final_orders(base_url, status.run_id)

    assert status.state == "done"
    assert progress[-1] == status
    assert len(sent) == status.webhooks.meant == status.webhooks.acknowledged
    assert len(orders) == 10
    assert {one.webhook_id for one in sent} == {request.webhook_id for request in receiver.requests}


async def test_an_unknown_shop_is_an_error(base_url: str) -> None:
    with pytest.raises(NotFoundError, match=r"nobody\.myshopify\.com"):
        await client.play_run(base_url, "nobody.myshopify.com", RunPlan(count=1), lambda _status: None)


async def test_a_refusal_is_an_error(base_url: str, receiver: Receiver) -> None:
    with pytest.raises(RefusedError, match="XXX"):
        await client.register_shop(base_url, DOMAIN, shop(receiver, currency="XXX"))


async def test_a_simulator_that_does_not_run_is_an_error() -> None:
    with pytest.raises(SimulatorUnavailableError, match="is it running there"):
        await client.sent("http://127.0.0.1:1", "run-1")
