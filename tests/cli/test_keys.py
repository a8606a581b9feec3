"""`sellflow keys …` and `sellflow shops settings …`: what they do, and what they say."""

from __future__ import annotations

import json
import re

import pytest

from tests.cli.commands import Installation

DOMAIN = "acme.myshopify.com"


def made(said: str) -> tuple[str, str]:
    """Return the id and the text of a key from what the command said."""
    (text,) = re.findall(r"sfk_[a-z0-9]{12}_[A-Za-z0-9_-]{43}", said)
    return text.split("_")[1], text


def test_a_key_is_made_listed_rotated_and_revoked(installation: Installation) -> None:
    said = installation.does("keys", "add", "our [CRM]", "--scope", "loyalty:read", "--shop", DOMAIN, "--days", "30")
    key_id, text = made(said)
    assert "(our [CRM])" in said, "a name is no markup"
    new_id, new_text = made(installation.does("keys", "rotate", key_id, "--overlap", "2"))
    assert "Revoked" in installation.does("keys", "revoke", key_id)
    listed = {each["key_id"]: each for each in json.loads(installation.does("keys", "list", "--json"))}
    assert (listed[key_id]["state"], listed[new_id]["state"]) == ("revoked", "active")
    assert listed[new_id]["replaces"] == key_id
    table = installation.does("keys", "list")
    for secret in (text, new_text):
        assert secret.split("_", 2)[2] not in table + json.dumps(listed)
    assert "loyalty:read" in table


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (("add", "crm", "--scope", "everything"), "a key needs scopes out of deadletters:read", 2),
        (("add", " ", "--scope", "queues:read"), "a key needs a name", 2),
        (("add", "crm", "--scope", "queues:read", "--shop", "no.myshopify.com"), "no shop 'no.myshopify.com'", 1),
        (("rotate", "nobody"), "there is no valid key nobody", 1),
        (("revoke", "nobody"), "there is no key nobody", 1),
    ],
)
def test_what_cannot_be_is_one_clear_message(
    installation: Installation, arguments: tuple[str, ...], message: str, code: int
) -> None:
    assert message in installation.refuses("keys", *arguments, code=code)


def test_settings_are_shown_and_set(installation: Installation) -> None:
    told = installation.does("shops", "settings", "set", DOMAIN, "storefront_domain=shop.example")
    assert "shop.example" in told
    found = json.loads(installation.does("shops", "settings", "get", DOMAIN, "--json"))
    assert found["settings"]["storefront_domain"] == "shop.example"
    installation.does("shops", "settings", "set", DOMAIN, "storefront_domain=")
    assert (
        json.loads(installation.does("shops", "settings", "get", DOMAIN, "--json"))["version"] == found["version"] + 1
    )
    for wrong, message in (
        ("odd=1", "odd: Extra inputs"),
        ("storefront_domain=10.0.0.1", "storefront_domain"),
        ("x", "NAME=VALUE"),
    ):
        assert message in installation.refuses("shops", "settings", "set", DOMAIN, wrong)
