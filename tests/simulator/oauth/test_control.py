"""Control routes: clicks of a merchant, tokens that age, and calls that fail before or after their effect."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.simulator.conftest import DOMAIN, RegisterShop
from tests.simulator.merchant import CLIENT_ID, CREDENTIALS, ONLINE, SCOPES, Json, Merchant
from tests.simulator.receiver import Receiver

REFRESH = CREDENTIALS | {"grant_type": "refresh_token"}


@pytest.fixture
async def served(base_url: str) -> AsyncIterator[Merchant]:
    """Give the app in a shop of a simulator that listens on a socket: only there can a connection break."""
    async with httpx.AsyncClient(base_url=base_url, trust_env=False) as client:
        found = Merchant(client)
        shop = {"webhook_url": "http://127.0.0.1:1/webhooks", "client_secret": "hush", "products": 1, "customers": 0}
        await found.do("PUT", f"/shops/{DOMAIN}", shop)
        await found.register_app()
        await found.install()
        yield found


async def calls(merchant: Merchant) -> Json:
    found: Json = (await merchant.do("GET", f"/shops/{DOMAIN}/oauth/calls"))["calls"]
    return found


async def fail(merchant: Merchant, **fault: object) -> None:
    await merchant.do("POST", f"/shops/{DOMAIN}/oauth/faults", fault)


async def test_a_registered_app_tells_everything_but_its_secret(merchant: Merchant) -> None:
    made = await merchant.register_app(title="Points", scopes="read_orders, write_products")

    assert made["scopes"] == SCOPES
    assert (await merchant.do("GET", "/apps"))["apps"] == [made]
    assert "secret" not in json.dumps(made)


async def test_changed_scopes_are_told_by_a_webhook(merchant: Merchant, receiver: Receiver) -> None:
    pair = await merchant.exchange()
    await merchant.do("PUT", f"/shops/{DOMAIN}/installations/{CLIENT_ID}/scopes", {"scopes": ["read_orders"]})
    (request,) = await receiver.wait_for(1)
    told = json.loads(request.body)

    assert request.topic == "app/scopes_update"
    assert (told["previous"], told["current"]) == (SCOPES, ["read_orders"])
    assert told["shop_id"]
    assert (await merchant.refresh(pair["refresh_token"]))["scope"] == "read_orders"


async def test_installing_again_without_a_change_tells_nothing(merchant: Merchant, receiver: Receiver) -> None:
    await merchant.install()
    await merchant.uninstall()
    await receiver.wait_for(1)

    assert receiver.topics() == ["app/uninstalled"]


async def test_one_app_can_be_uninstalled_while_another_stays(merchant: Merchant) -> None:
    await merchant.do("PUT", "/apps/other", {"client_secret": "hush"})
    await merchant.do("POST", f"/shops/{DOMAIN}/install", {"client_id": "other"})
    pair = await merchant.exchange()
    await merchant.do("POST", f"/shops/{DOMAIN}/uninstall", {"client_id": "other"})

    assert await merchant.is_accepted(pair["access_token"])


async def test_tokens_can_be_aged_by_hand(merchant: Merchant) -> None:
    pair = await merchant.exchange()
    await merchant.do("POST", f"/shops/{DOMAIN}/tokens/age", {})
    assert not await merchant.is_accepted(pair["access_token"])

    next_pair = await merchant.refresh(pair["refresh_token"])
    assert await merchant.is_accepted(next_pair["access_token"])
    await merchant.do("POST", f"/shops/{DOMAIN}/tokens/age", {"refresh_seconds": 90 * 24 * 3600})
    assert (await merchant.refresh(next_pair["refresh_token"], 400))["error"] == "invalid_grant"


async def test_a_token_can_be_minted_for_a_shop_without_any_app(api: httpx.AsyncClient, register: RegisterShop) -> None:
    await register()
    merchant = Merchant(api)
    made = await merchant.do("POST", f"/shops/{DOMAIN}/access-token", {"scopes": ["read_orders"]})

    assert made["scope"] == "read_orders"
    assert await merchant.is_accepted(made["access_token"])
    assert not await merchant.is_accepted("")


@pytest.mark.parametrize(("kind", "took_effect"), [("error_before", False), ("error_after", True)])
async def test_an_error_comes_before_or_after_the_effect(merchant: Merchant, kind: str, took_effect: bool) -> None:
    first = await merchant.exchange()
    await fail(merchant, kind=kind, status=520, grant="refresh_token")
    await merchant.exchange(await merchant.session_token(), 200, requested_token_type=ONLINE)
    answer = await merchant.api.post(f"/shops/{DOMAIN}/admin/oauth/access_token", json=REFRESH | first)

    assert answer.status_code == 520
    assert await merchant.is_accepted(first["access_token"]) is not took_effect
    assert (await calls(merchant))["refresh_token"] == {"received": 1, "granted": 0, "refused": 0, "failed": 1}
    await merchant.refresh(first["refresh_token"])


@pytest.mark.parametrize(("kind", "took_effect"), [("drop_before", False), ("drop_after", True)])
async def test_a_connection_breaks_before_or_after_the_effect(served: Merchant, kind: str, took_effect: bool) -> None:
    first = await served.exchange()
    await fail(served, kind=kind, times=2)
    for _ in range(2):
        with pytest.raises(httpx.RemoteProtocolError):
            await served.refresh(first["refresh_token"])

    assert await served.is_accepted(first["access_token"]) is not took_effect
    await served.refresh(first["refresh_token"])


async def test_latency_delays_the_answer_and_keeps_the_effect(merchant: Merchant) -> None:
    await fail(merchant, kind="latency", seconds=0.01)

    assert await merchant.is_accepted((await merchant.exchange())["access_token"])


async def test_planned_faults_can_be_taken_back_and_counters_reset(merchant: Merchant) -> None:
    await fail(merchant, kind="error_before", times=100)
    await merchant.do("DELETE", f"/shops/{DOMAIN}/oauth/faults")
    await merchant.exchange()
    await merchant.do("DELETE", f"/shops/{DOMAIN}/oauth/calls")

    assert await calls(merchant) == {}


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", f"/shops/{DOMAIN}/install", {"client_id": "nobody"}, 404),
        ("POST", f"/shops/{DOMAIN}/session-token", {"client_id": "nobody"}, 404),
        ("POST", "/shops/unknown.myshopify.com/install", {"client_id": CLIENT_ID}, 404),
        ("PUT", f"/shops/{DOMAIN}/installations/nobody/scopes", {"scopes": []}, 404),
        ("PUT", "/apps/x", {"client_secret": ""}, 400),
        ("PUT", "/apps/x", {"client_secret": "s", "app_url": "javascript:alert(1)"}, 400),
        ("POST", f"/shops/{DOMAIN}/oauth/faults", {"kind": "earthquake"}, 400),
    ],
)
async def test_what_makes_no_sense_is_refused(
    *, merchant: Merchant, method: str, path: str, body: Json, status: int
) -> None:
    assert (await merchant.do(method, path, body, status))["error"]
