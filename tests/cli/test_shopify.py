"""`sellflow shopify`: commands on an installation whose Shopify is the simulator."""

from __future__ import annotations

import asyncio
import json
import threading
import tomllib
from collections.abc import Iterator

import httpx
import pytest

from sellflow.roles import bind, serve_http
from sellflow.simulator.app import create_app
from tests.cli.commands import Installation
from tests.shopify.simulated import SCHEMAS

SHOP = "connected.myshopify.com"
SECRET = "a-secret-that-is-long-enough-for-hs256"
SCOPES = ["read_orders", "read_customers"]


@pytest.fixture(scope="module")
def simulator() -> Iterator[str]:
    """A simulator in a thread of its own: commands run in this one, and block it."""
    listener = bind("127.0.0.1", 0, setting="SELLFLOW_SIMULATOR_PORT")
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    serving = serve_http(create_app(schema_dir=SCHEMAS), listener, stop)
    thread = threading.Thread(target=loop.run_until_complete, args=(serving,))
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()


@pytest.fixture
def connected(installation: Installation, simulator: str) -> Installation:
    """An app `linked` whose Shopify is the simulator, where a shop has it installed."""
    with httpx.Client(base_url=simulator, trust_env=False) as client:
        shop = {"webhook_url": "http://127.0.0.1:9/", "client_secret": SECRET, "currency": "EUR"}
        client.put(f"/shops/{SHOP}", json=shop).raise_for_status()
        client.put("/apps/client-linked", json={"client_secret": SECRET, "scopes": SCOPES}).raise_for_status()
        client.post(f"/shops/{SHOP}/install", json={"client_id": "client-linked"}).raise_for_status()
    installation.does("apps", "add", "linked", "--client-id", "client-linked", "--secret-stdin", stdin=f"{SECRET}\n")
    installation.does(
        "apps", "configure", "linked", "--shopify-url", f"{simulator}/shops/{{shop}}", "--scopes", ",".join(SCOPES)
    )
    return installation


def test_a_shop_is_connected_by_the_apps_own_credentials_and_checked(connected: Installation) -> None:
    assert f"{SHOP} is connected (EUR)" in connected.does("shopify", "connect", SHOP, "--app", "linked")
    done = connected.line.run("shopify", "check", "--app", "linked", "--json", env=connected.env)
    found = {(each["where"], each["about"]): each["level"] for each in json.loads(done.out)}
    assert done.code == 1, "nobody outside knows where this installation is"
    assert found["linked", "public address"] == "fail"
    where = f"linked in {SHOP}"
    assert {about: level for (at, about), level in found.items() if at == where} == {
        "credentials": "ok",
        "token": "ok",
        "Admin API": "ok",
        "access scopes": "ok",
        "order history": "warn",
        "API version": "ok",
        "clock": "ok",
        "webhooks": "ok",
    }
    table = connected.line.run("shopify", "check", "--app", "linked", "--shop", SHOP, env=connected.env)
    assert "set SELLFLOW_PUBLIC_URL" in table.out
    assert SECRET not in done.out + done.err + table.out + table.err


def test_a_shop_is_connected_by_a_token_that_somebody_has(connected: Installation, simulator: str) -> None:
    with httpx.Client(base_url=simulator, trust_env=False) as client:
        made = client.post(f"/shops/{SHOP}/access-token", json={"scopes": SCOPES}).json()["access_token"]
    told = connected.does("shopify", "connect", SHOP, "--app", "linked", "--token-stdin", stdin=f"{made}\n")
    assert "is connected" in told
    assert made not in told
    kinds = connected.ask(
        "SELECT kind FROM access_tokens JOIN shops USING (shop_id) WHERE domain = 'connected.myshopify.com'"
    )
    assert kinds == [("permanent",)]
    assert "stays as it is" in connected.refuses("shopify", "migrate", SHOP, code=1)


def test_what_cannot_be_connected_is_told(connected: Installation) -> None:
    assert "the token is empty" in connected.refuses(
        "shopify", "connect", SHOP, "--app", "linked", "--token-stdin", stdin="\n"
    )
    assert "no domain of a shop" in connected.refuses("shopify", "connect", "evil.com", "--app", "linked", code=1)
    assert "there is no app 'nobody'" in connected.refuses("shopify", "connect", SHOP, "--app", "nobody", code=1)
    assert "there is no app nobody" in connected.refuses("shopify", "check", "--app", "nobody")


def test_the_configuration_of_an_app_is_printed_for_shopifys_own_command(connected: Installation) -> None:
    done = connected.line.run("shopify", "app-config", "--app", "linked", env=connected.env)
    found = tomllib.loads(done.out)
    assert found["client_id"] == "client-linked"
    assert found["access_scopes"]["scopes"] == ",".join(SCOPES)
    assert "SELLFLOW_PUBLIC_URL is not set" in done.err
