"""The authorization code grant: approved at once, redirected to registered addresses only, a code good for one use."""

from __future__ import annotations

import base64
import hashlib
import hmac
from urllib.parse import parse_qs, quote, urlsplit

import httpx
import pytest

from tests.simulator.conftest import DOMAIN, Clock
from tests.simulator.merchant import CLIENT_ID, SECRET, Merchant

pytestmark = pytest.mark.conformance

REDIRECT = "https://app.test/auth/callback"
PATH = f"/shops/{DOMAIN}/admin/oauth/authorize"


async def approve(merchant: Merchant, **asked: str) -> httpx.Response:
    await merchant.register_app(redirect_urls=[REDIRECT, f"{REDIRECT}?from=shopify"])
    params = {"client_id": CLIENT_ID, "redirect_uri": REDIRECT, "state": "a state & more", "scope": "read_orders"}
    return await merchant.api.get(PATH, params={**params, **asked})


def told(answer: httpx.Response) -> dict[str, str]:
    assert answer.status_code == 302
    return {name: found[0] for name, found in parse_qs(urlsplit(answer.headers["location"]).query).items()}


async def test_the_redirect_is_signed_over_its_sorted_encoded_parameters(merchant: Merchant, clock: Clock) -> None:
    answer = await approve(merchant)
    query = told(answer)
    given = query.pop("hmac")
    text = "&".join(f"{name}={quote(value, safe='')}" for name, value in sorted(query.items()))

    assert answer.headers["location"].startswith(f"{REDIRECT}?")
    assert query.keys() == {"code", "host", "shop", "state", "timestamp"}
    assert (query["shop"], query["state"]) == (DOMAIN, "a state & more")
    assert abs(int(query["timestamp"]) - clock().timestamp()) < 5
    assert base64.b64decode(query["host"] + "==") == b"admin.shopify.com/store/demo-shop"
    assert given == hmac.new(SECRET.encode(), text.encode(), hashlib.sha256).hexdigest()


async def test_a_code_is_collected_once(merchant: Merchant) -> None:
    code = told(await approve(merchant))["code"]
    given = await merchant.token(code=code)

    assert given.keys() == {"access_token", "scope"}
    assert given["scope"] == "read_orders"
    assert await merchant.token(400, code=code) == {
        "error": "invalid_request",
        "error_description": "The authorization code was not found or was already used",
    }


async def test_a_code_gives_a_pair_where_expiring_is_asked_for(merchant: Merchant) -> None:
    pair = await merchant.token(code=told(await approve(merchant))["code"], expiring=1)

    await merchant.refresh(pair["refresh_token"])


async def test_a_code_for_one_user_gives_an_online_token(merchant: Merchant) -> None:
    code = told(await approve(merchant, **{"grant_options[]": "per-user"}))["code"]

    assert (await merchant.token(code=code))["associated_user"]["account_owner"] is True


async def test_a_code_that_waited_too_long_is_lost(merchant: Merchant, clock: Clock) -> None:
    code = told(await approve(merchant))["code"]
    clock.advance(minutes=10)

    await merchant.token(400, code=code)


async def test_a_code_is_worth_nothing_to_another_app_and_stays_for_its_own(merchant: Merchant) -> None:
    code = told(await approve(merchant))["code"]
    await merchant.do("PUT", "/apps/other", {"client_secret": SECRET})

    await merchant.token(400, client_id="other", code=code)
    await merchant.token(code=code)


async def test_an_uninstall_ends_a_code(merchant: Merchant) -> None:
    code = told(await approve(merchant))["code"]
    await merchant.uninstall()

    await merchant.token(400, code=code)


@pytest.mark.parametrize(
    "target",
    ["https://evil.test/auth/callback", f"{REDIRECT}/../evil", f"{REDIRECT}?next=evil", f"{REDIRECT}@evil.test", ""],
)
async def test_nobody_is_sent_to_an_address_that_was_not_registered(merchant: Merchant, target: str) -> None:
    answer = await approve(merchant, redirect_uri=target)

    assert answer.status_code == 400
    assert "location" not in answer.headers


async def test_nobody_is_sent_anywhere_by_an_unknown_app(merchant: Merchant) -> None:
    answer = await approve(merchant, client_id="nobody")

    assert (answer.status_code, "location" in answer.headers) == (400, False)
    assert "application_cannot_be_found" in answer.text


async def test_a_registered_address_may_have_a_query_of_its_own(merchant: Merchant) -> None:
    query = told(await approve(merchant, redirect_uri=f"{REDIRECT}?from=shopify"))

    assert query["from"] == "shopify"
    assert query["code"]


async def test_approving_installs_the_app_with_the_scopes_asked_for(merchant: Merchant) -> None:
    await merchant.uninstall()
    await approve(merchant, scope="read_orders,read_customers")
    (installed,) = (await merchant.do("GET", f"/shops/{DOMAIN}/installations"))["installations"]

    assert installed["scopes"] == ["read_orders", "read_customers"]
