"""`sellflow plans …`, `sellflow apps billing` and `sellflow shops plan`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.commands import Installation

DOMAIN = "acme.myshopify.com"
FILE = """
[plans.basic]
name = "Basic [b]"
price = 9.90
currency = "USD"
features = ["segments"]
limits = { orders_per_month = 100 }
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "plans.toml"
    path.write_text(FILE)
    return path


def test_plans_are_applied_from_a_file_after_a_look(installation: Installation, file: Path) -> None:
    said = installation.does("plans", "apply", str(file), "--yes")
    assert "price: none -> 9.90" in said
    assert "Nothing changes." in installation.does("plans", "apply", str(file))
    file.write_text(FILE.replace("9.90", "12"))
    refused = installation.line.run("plans", "apply", str(file), env=installation.env, stdin="n\n")
    assert refused.code == 1
    assert "price: 9.90 -> 12" in refused.out
    listed = {each["handle"]: each for each in json.loads(installation.does("plans", "list", "--json"))}
    assert (listed["basic"]["price"], listed["basic"]["billing_interval"]) == ("9.90", "EVERY_30_DAYS")
    assert "Basic [b]" in installation.does("plans", "list")


def test_a_plan_is_added_changed_and_archived(installation: Installation) -> None:
    installation.does("plans", "add", "extra", "name=Extra", "endpoints=3", "features=a,b", "price=5", "currency=EUR")
    assert "endpoints: 3 -> none" in installation.does("plans", "set", "extra", "endpoints=", "description=More")
    assert "0 shops have it" in installation.does("plans", "archive", "extra")
    (found,) = [each for each in json.loads(installation.does("plans", "list", "--json")) if each["handle"] == "extra"]
    assert (found["endpoints"], found["features"], found["archived_at"] is None) == (None, ["a", "b"], False)


def test_an_operator_sets_a_shops_plan_and_releases_it(installation: Installation, file: Path) -> None:
    installation.does("plans", "apply", str(file), "--yes")
    said = installation.does("shops", "plan", DOMAIN, "--set", "basic")
    assert "Basic [b] (basic)" in said
    assert "0 of 100 orders" in said
    found = json.loads(installation.does("shops", "plan", DOMAIN, "--json"))
    assert (found["plan"]["handle"], found["history"][0]["source"]) == ("basic", "operator")
    assert "Standard (standard)" in installation.does("shops", "plan", DOMAIN, "--release")


def test_an_app_says_how_it_bills(installation: Installation) -> None:
    installation.does("apps", "billing", "acme", "--mode", "managed", "--test", "--pricing-handle", "acme-app")
    asked = "SELECT billing, billing_is_test, pricing_handle FROM apps WHERE handle = 'acme'"
    assert installation.ask(asked) == [("managed", True, "acme-app")]
    installation.does("apps", "billing", "acme", "--mode", "none", "--no-test")
    assert installation.ask(asked) == [("none", False, "acme-app")]


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (("plans", "add", "standard"), "there is a plan 'standard' already", 2),
        (("plans", "set", "nothing", "name=x"), "there is no plan 'nothing' (known:", 1),
        (("plans", "set", "standard", "endpoints=many"), "limits.endpoints", 2),
        (("plans", "set", "standard", "odd=1"), "odd: Extra inputs", 2),
        (("plans", "set", "standard", "odd"), "NAME=VALUE", 2),
        (("plans", "archive", "standard"), "'standard' is the default plan", 2),
        (("plans", "apply", "/nowhere.toml"), "cannot be read", 2),
        (("shops", "plan", DOMAIN, "--set", "nothing"), "there is no plan 'nothing'", 1),
        (("shops", "plan", DOMAIN, "--set", "standard", "--release"), "contradict", 2),
        (("apps", "billing", "acme", "--mode", "barter"), "managed, manual or none, not 'barter'", 2),
        (("apps", "billing", "nobody", "--mode", "none"), "there is no app 'nobody'", 1),
    ],
)
def test_what_cannot_be_is_one_clear_message(
    installation: Installation, arguments: tuple[str, ...], message: str, code: int
) -> None:
    assert message in installation.refuses(*arguments, code=code)
