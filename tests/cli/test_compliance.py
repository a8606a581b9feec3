"""`sellflow compliance`: what was asked for, what was done, and the file of it."""

from __future__ import annotations

import json
from pathlib import Path

import orjson
import psycopg
import pytest

from tests.cli.commands import Installation

SHOP = "acme.myshopify.com"


def ask(installation: Installation, kind: str, *, overdue: bool = False) -> str:
    """Write a request down as its handler does; return its id."""
    subject = None if kind == "shop_redact" else '{"customer_id": 7, "email": null, "phone": null, "order_ids": []}'
    with psycopg.connect(installation.url, user="postgres", autocommit=True) as connection:
        row = connection.execute(
            """
            INSERT INTO compliance_requests
                (app_id, shop_id, shop_domain, kind, subject, source_day, source_event_id, received_at, due_at)
            SELECT app_id, shop_id, domain, %s, %s, '2026-01-01', nextval('event_ids'), now(),
                   now() + make_interval(days => %s)
            FROM shops WHERE domain = %s RETURNING request_id
            """,
            (kind, subject, -1 if overdue else 30, SHOP),
        ).fetchone()
    assert row is not None
    return str(row[0])


def test_a_data_request_is_listed_fulfilled_shown_and_fetched(installation: Installation, tmp_path: Path) -> None:
    request_id = ask(installation, "data_request")
    assert "customer 7" in installation.does("compliance", "list", "--unfinished")
    assert "export" not in installation.does("compliance", "show", request_id)
    installation.does("compliance", "run")
    assert "export" in installation.does("compliance", "show", request_id)
    document = orjson.loads(installation.does("compliance", "export", request_id))
    assert document["request"]["customer"]["id"] == 7
    file = tmp_path / "customer.json"
    installation.does("compliance", "export", request_id, "--out", str(file))
    assert orjson.loads(file.read_bytes())["tables"] == document["tables"]
    assert file.stat().st_mode & 0o777 == 0o600
    assert "cannot be written" in installation.refuses("compliance", "export", request_id, "--out", str(file))


def test_what_is_overdue_is_marked_and_what_is_done_says_so(installation: Installation) -> None:
    request_id = ask(installation, "customer_redact", overdue=True)
    assert "open, overdue" in installation.does("compliance", "list")
    (told,) = [
        each
        for each in json.loads(installation.does("compliance", "list", "--json"))
        if str(each["request_id"]) == request_id
    ]
    assert (told["overdue"], told["person"]["customer_id"], told["state"]) == (True, 7, "open")
    installation.does("compliance", "run")
    shown = json.loads(installation.does("compliance", "show", request_id, "--json"))
    assert shown["state"] == "settling"
    assert "does not ask for data" in installation.refuses("compliance", "export", request_id, code=1)


def test_a_shop_that_is_installed_goes_on_confirmation_alone(installation: Installation) -> None:
    request_id = ask(installation, "shop_redact")
    installation.does("compliance", "run")
    assert "held" in installation.does("compliance", "show", request_id)
    assert SHOP in installation.does("compliance", "confirm", request_id)
    assert "not held" in installation.refuses("compliance", "confirm", request_id)
    with psycopg.connect(installation.url, user="postgres", autocommit=True) as connection:
        connection.execute("DELETE FROM compliance_requests")


@pytest.mark.parametrize("command", ["show", "export", "confirm"])
def test_a_request_that_is_not_there_is_said_to_be_none(installation: Installation, command: str) -> None:
    assert "there is no request 999999" in installation.refuses("compliance", command, "999999", code=1)
