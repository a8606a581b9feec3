"""`sellflow endpoints …`: what it does and says, up to a delivery by a worker in a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from standardwebhooks import Webhook

from sellflow.cli import endpoints
from tests.cli.commands import Installation

URL = "https://shop.example/hooks"


@pytest.fixture
def added(installation: Installation) -> Iterator[tuple[str, str]]:
    """Add an endpoint and return its id and secret; remove it in the end."""
    said = installation.does("endpoints", "add", URL, "--topic", "queue.dead_letter", "--topic", "loyalty.#")
    endpoint_id, secret = re.findall(r"Endpoint (\d+) .*(whsec_\S+)", said, re.DOTALL)[0]
    yield endpoint_id, secret
    installation.does("endpoints", "remove", endpoint_id)


def test_an_installation_without_endpoints_says_how_to_add_one(installation: Installation) -> None:
    assert "sellflow endpoints add" in installation.does("endpoints", "list")
    assert json.loads(installation.does("endpoints", "list", "--json")) == []


def test_an_endpoint_is_added_listed_and_shown_without_its_secret(
    installation: Installation, added: tuple[str, str]
) -> None:
    endpoint_id, secret = added
    (listed,) = json.loads(installation.does("endpoints", "list", "--json"))
    assert (listed["address"], listed["topics"]) == (URL, ["loyalty.#", "queue.dead_letter"])
    table = installation.does("endpoints", "list")
    shown = installation.does("endpoints", "show", endpoint_id)
    assert "every shop" in table
    assert "Deliveries" in shown
    assert "none yet" in shown
    assert secret not in table + shown + json.dumps(listed)


def test_a_shop_s_endpoint_is_listed_with_its_shop(installation: Installation) -> None:
    said = installation.does("endpoints", "add", URL, "--topic", "#", "--shop", "acme.myshopify.com")
    (endpoint_id,) = re.findall(r"Endpoint (\d+)", said)
    listed = json.loads(installation.does("endpoints", "list", "--shop", "acme.myshopify.com", "--json"))
    assert [str(each["endpoint_id"]) for each in listed] == [endpoint_id]
    installation.does("endpoints", "remove", endpoint_id)


def test_a_secret_is_rotated_and_the_new_one_shown(installation: Installation, added: tuple[str, str]) -> None:
    endpoint_id, secret = added
    rotated = installation.does("endpoints", "rotate", endpoint_id, "--overlap", "2")
    assert "whsec_" in rotated
    assert secret not in rotated
    assert "Both sign for 2 hours" in rotated


def test_an_endpoint_is_paused_with_its_reason_and_resumed(installation: Installation, added: tuple[str, str]) -> None:
    endpoint_id, _ = added
    installation.does("endpoints", "pause", endpoint_id, "--reason", "moving [house]")
    shown = installation.does("endpoints", "show", endpoint_id)
    assert "moving [house]" in shown
    assert f"sellflow endpoints resume {endpoint_id}" in shown
    assert "0 deliveries" in installation.does("endpoints", "resume", endpoint_id)
    assert "active" in installation.does("endpoints", "show", endpoint_id)


def test_an_empty_log_and_nothing_to_replay_are_said(installation: Installation, added: tuple[str, str]) -> None:
    endpoint_id, _ = added
    assert "Nothing was delivered" in installation.does("endpoints", "deliveries", endpoint_id)
    assert json.loads(installation.does("endpoints", "deliveries", endpoint_id, "--json")) == []
    assert "No attempt" in installation.does("endpoints", "deliveries", endpoint_id, "--delivery", "1")
    assert "Nothing to send again" in installation.does("endpoints", "replay", endpoint_id, "--since", "2026-01-01")


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (("add", "http://shop.example/", "--topic", "#"), "begins with https://", 2),
        (("add", "https://10.0.0.1/", "--topic", "#"), "10.0.0.1 is not a public address", 2),
        (("add", "https://127.0.0.1/", "--topic", "#"), "SELLFLOW_OUTGOING_PRIVATE_NETWORKS", 2),
        (("add", "https://user:word@shop.example/", "--topic", "#"), "no user and password", 2),
        (("add", URL, "--topic", "loyalti.#"), "no topic matches 'loyalti.#'; there are: loyalty.points", 2),
        (("add", URL, "--topic", "#", "--shop", "unknown.myshopify.com"), "no shop 'unknown.myshopify.com'", 1),
        (("add", "arn:aws:sns:eu:1:x", "--topic", "#"), "is no SNS topic", 2),
        (("show", "4711"), "there is no endpoint 4711", 1),
        (("rotate", "4711"), "there is no endpoint 4711", 1),
        (("test", "4711"), "there is no endpoint 4711", 1),
        (("deliveries", "1", "--state", "lost"), "pending, delivered, held, failed", 2),
        (("replay", "1"), "name one delivery", 2),
        (("replay", "1", "--since", "yesterday"), "a time such as", 2),
    ],
)
def test_what_cannot_be_is_one_clear_message(
    installation: Installation, arguments: tuple[str, ...], message: str, code: int
) -> None:
    assert message in installation.refuses("endpoints", *arguments, code=code)


def test_a_test_that_no_worker_takes_says_so(
    installation: Installation, added: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoints, "LONGEST_TEST", 0.2)
    done = installation.line.run("endpoints", "test", added[0], env=installation.env)
    assert done.code == 1
    assert "is one running?" in done.out


class Received(HTTPServer):
    """Notes what is POSTed to it, and answers 201."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[tuple[dict[str, str], bytes]] = []


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Received)
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.requests.append((dict(self.headers.items()), body))
        self.send_response(201)
        self.end_headers()
        self.wfile.write(b"thank you")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's own signature
        """Say nothing on the tests' output."""


@contextmanager
def _receiving() -> Iterator[Received]:
    with Received() as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def _working(env: dict[str, str]) -> Iterator[None]:
    command = [sys.executable, "-m", "sellflow", "worker", "--queues", "outgoing,outgoing_deliveries"]
    with subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0


def test_a_test_goes_through_a_worker_to_the_endpoint_and_back_into_the_log(installation: Installation) -> None:
    installation.env["SELLFLOW_OUTGOING_PRIVATE_NETWORKS"] = "127.0.0.1/32"
    with _receiving() as server, _working(installation.env | {"PATH": os.environ["PATH"]}):
        url = f"http://127.0.0.1:{server.server_port}/hooks"
        said = installation.does("endpoints", "add", url, "--topic", "queue.*")
        endpoint_id, secret = re.findall(r"Endpoint (\d+) .*(whsec_\S+)", said, re.DOTALL)[0]
        tested = installation.does("endpoints", "test", endpoint_id)
    assert "201" in tested
    assert "thank you" in tested
    ((headers, body),) = server.requests
    assert Webhook(secret).verify(body, headers)["type"] == "queue.endpoint_test"
    (delivery,) = json.loads(installation.does("endpoints", "deliveries", endpoint_id, "--json"))
    assert (delivery["state"], delivery["attempts"], delivery["last_status"]) == ("delivered", 1, 201)
    replay = ("endpoints", "replay", endpoint_id, "--delivery", str(delivery["delivery_id"]))
    assert "1 deliveries" in installation.does(*replay)
    assert "Nothing to send again" in installation.does(*replay)
    installation.does("endpoints", "remove", endpoint_id)
