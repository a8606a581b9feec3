"""The token endpoint gives, rotates and refuses tokens as Shopify documents it."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from tests.simulator.conftest import DOMAIN, SECRET, Clock, RegisterShop
from tests.simulator.merchant import (
    CLIENT_ID,
    CREDENTIALS,
    EXCHANGE,
    ID_TOKEN,
    OFFLINE,
    ONLINE,
    TOKEN_PATH,
    Json,
    Merchant,
)
from tests.simulator.merchant import SECRET as APP_SECRET

pytestmark = pytest.mark.conformance

NEW_SECRET = "the-next-secret-of-an-app-in-development"
OTHER_DOMAIN = "other-shop.myshopify.com"
INACTIVE = {"error": "invalid_request", "error_description": "This request requires an active refresh_token"}


async def test_an_exchange_gives_an_hour_of_access_and_ninety_days_to_refresh_it(merchant: Merchant) -> None:
    pair = await merchant.exchange()

    assert pair.keys() == {"access_token", "scope", "expires_in", "refresh_token", "refresh_token_expires_in"}
    assert (pair["expires_in"], pair["refresh_token_expires_in"]) == (3600, 90 * 24 * 3600)
    assert pair["scope"] == "read_orders,write_products"
    assert pair["access_token"].startswith("shpat_")
    assert await merchant.is_accepted(pair["access_token"])


async def test_a_form_is_understood_like_json(merchant: Merchant) -> None:
    asked = CREDENTIALS | {
        "grant_type": EXCHANGE,
        "subject_token": await merchant.session_token(),
        "subject_token_type": ID_TOKEN,
        "requested_token_type": OFFLINE,
        "expiring": "1",
    }
    answer = await merchant.api.post(TOKEN_PATH, data=asked)

    assert answer.status_code == 200
    assert "refresh_token" in answer.json()


async def test_without_expiring_the_token_stays_and_is_the_same_each_time(merchant: Merchant, clock: Clock) -> None:
    first = await merchant.exchange(expiring=0)
    clock.advance(days=400)

    assert first.keys() == {"access_token", "scope"}
    assert await merchant.exchange(expiring=0) == first
    assert await merchant.is_accepted(first["access_token"])


async def test_an_online_token_names_its_user_and_lasts_a_day(merchant: Merchant, clock: Clock) -> None:
    token = await merchant.session_token(user_id=42)
    online = await merchant.exchange(token, requested_token_type=ONLINE, expiring=0)

    assert online["expires_in"] == 24 * 3600
    assert online["associated_user"]["id"] == 42
    assert online["associated_user_scope"] == online["scope"]
    assert "refresh_token" not in online
    clock.advance(hours=24)
    assert not await merchant.is_accepted(online["access_token"])


async def test_a_new_pair_ends_the_one_before(merchant: Merchant) -> None:
    first, second = await merchant.exchange(), await merchant.exchange()

    assert not await merchant.is_accepted(first["access_token"])
    assert await merchant.is_accepted(second["access_token"])
    assert await merchant.refresh(first["refresh_token"], 401) == INACTIVE


async def test_a_token_is_refused_after_its_hour(merchant: Merchant, clock: Clock) -> None:
    pair = await merchant.exchange()
    clock.advance(minutes=59)
    assert await merchant.is_accepted(pair["access_token"])
    clock.advance(minutes=1)
    assert not await merchant.is_accepted(pair["access_token"])


async def test_a_refresh_gives_a_new_pair_with_a_new_life(merchant: Merchant, clock: Clock) -> None:
    first = await merchant.exchange()
    clock.advance(days=80)
    second = await merchant.refresh(first["refresh_token"])

    assert second["refresh_token"] != first["refresh_token"]
    assert second["access_token"] != first["access_token"]
    assert second["refresh_token_expires_in"] == 90 * 24 * 3600
    assert await merchant.is_accepted(second["access_token"])


async def test_a_refresh_token_works_again_until_its_replacement_is_used(merchant: Merchant) -> None:
    first = await merchant.exchange()
    second = await merchant.refresh(first["refresh_token"])
    again = await merchant.refresh(first["refresh_token"])
    assert again == second

    third = await merchant.refresh(second["refresh_token"])
    assert await merchant.refresh(first["refresh_token"], 401) == INACTIVE
    assert await merchant.is_accepted(third["access_token"])


async def test_a_lost_answer_is_recovered_with_a_living_access_token(merchant: Merchant, clock: Clock) -> None:
    first = await merchant.exchange()
    await merchant.refresh(first["refresh_token"])
    clock.advance(hours=5)
    recovered = await merchant.refresh(first["refresh_token"])

    assert recovered["expires_in"] == 3600
    assert await merchant.is_accepted(recovered["access_token"])


async def test_recovery_ends_thirty_days_after_the_first_use(merchant: Merchant, clock: Clock) -> None:
    first = await merchant.exchange()
    second = await merchant.refresh(first["refresh_token"])
    clock.advance(days=30)

    assert await merchant.refresh(first["refresh_token"], 401) == INACTIVE
    await merchant.refresh(second["refresh_token"])


async def test_a_refresh_token_ends_after_ninety_days(merchant: Merchant, clock: Clock) -> None:
    pair = await merchant.exchange()
    clock.advance(days=90)

    assert (await merchant.refresh(pair["refresh_token"], 400))["error"] == "invalid_grant"


async def test_raced_refreshes_end_in_one_pair(merchant: Merchant) -> None:
    first = await merchant.exchange()
    raced = await asyncio.gather(*(merchant.refresh(first["refresh_token"]) for _ in range(8)))

    assert len({(pair["access_token"], pair["refresh_token"]) for pair in raced}) == 1
    calls = (await merchant.do("GET", f"/shops/{DOMAIN}/oauth/calls"))["calls"]
    assert calls["refresh_token"] == {"received": 8, "granted": 8, "refused": 0, "failed": 0}
    assert calls["token_exchange"]["granted"] == 1


async def test_a_token_without_expiry_is_migrated_once_and_can_be_asked_for_again(
    merchant: Merchant, clock: Clock
) -> None:
    old = (await merchant.exchange(expiring=0))["access_token"]
    pair = await merchant.migrate(old)
    clock.advance(days=6)
    again = await merchant.migrate(old)

    assert (again["access_token"], again["refresh_token"]) == (pair["access_token"], pair["refresh_token"])
    assert again["expires_in"] == 3600
    assert again["refresh_token_expires_in"] == 84 * 24 * 3600
    assert not await merchant.is_accepted(old)
    assert await merchant.is_accepted(pair["access_token"])


@pytest.mark.parametrize("ends", ["refreshed", "replaced", "a week passed"])
async def test_a_migration_cannot_be_repeated_for_ever(merchant: Merchant, clock: Clock, ends: str) -> None:
    old = (await merchant.exchange(expiring=0))["access_token"]
    pair = await merchant.migrate(old)
    if ends == "refreshed":
        await merchant.refresh(pair["refresh_token"])
    elif ends == "replaced":
        await merchant.exchange()
    else:
        clock.advance(days=7)

    assert (await merchant.migrate(old, 400))["error"] == "invalid_subject_token"


async def test_only_a_token_without_expiry_is_migrated(merchant: Merchant) -> None:
    pair = await merchant.exchange()

    assert (await merchant.migrate(pair["access_token"], 400))["error"] == "invalid_subject_token"
    assert (await merchant.migrate("shpat_unknown", 400))["error"] == "invalid_subject_token"


async def test_client_credentials_give_a_day_without_a_refresh_token(merchant: Merchant) -> None:
    given = await merchant.token(grant_type="client_credentials")

    assert given.keys() == {"access_token", "scope", "expires_in"}
    assert given["expires_in"] == 24 * 3600


HOSTILE: dict[str, Json] = {
    "expired": {"age_seconds": 120},
    "not valid yet": {"age_seconds": -600},
    "for another app": {"claims": {"aud": "another-app"}},
    "for another shop": {"claims": {"dest": f"https://{OTHER_DOMAIN}", "iss": f"https://{OTHER_DOMAIN}/admin"}},
    "from one shop for another": {"claims": {"iss": f"https://{OTHER_DOMAIN}/admin"}},
    "without a shop": {"claims": {"dest": None}},
    "without an end": {"claims": {"exp": None}},
    "with a text for its end": {"claims": {"exp": "tomorrow"}},
    "with numbers for its names": {"claims": {"iss": 5, "dest": 6, "sub": 7}},
    "for a list of apps and shops": {"claims": {"aud": [[]], "dest": {}}},
    "signed by somebody else": {"secret": "a-secret-that-somebody-else-guessed"},
}


@pytest.mark.parametrize("kind", HOSTILE)
async def test_a_session_token_that_does_not_hold_is_no_subject(merchant: Merchant, kind: str) -> None:
    token = await merchant.session_token(**HOSTILE[kind])

    assert await merchant.exchange(token, 400) == {
        "error": "invalid_subject_token",
        "error_description": "Token exchange cannot be performed due to an invalid subject token.",
    }


async def test_an_unsigned_session_token_is_no_subject(merchant: Merchant) -> None:
    honest = await merchant.session_token()
    payload = honest.split(".")[1]
    unsigned = f"eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{payload}."

    assert (await merchant.exchange(unsigned, 400))["error"] == "invalid_subject_token"


async def test_an_unknown_app_and_a_wrong_secret_are_told_apart(merchant: Merchant) -> None:
    unknown = await merchant.token(400, client_id="nobody", grant_type="client_credentials")
    wrong = await merchant.token(
        401, client_secret="a-secret-that-somebody-else-guessed", grant_type="client_credentials"
    )

    assert unknown["error"] == "application_cannot_be_found"
    assert wrong["error"] == "invalid_client"


async def test_both_secrets_count_during_a_rotation(merchant: Merchant) -> None:
    await merchant.register_app(client_secret=NEW_SECRET, old_client_secret=APP_SECRET)
    before = await merchant.session_token()

    await merchant.exchange(before)
    await merchant.exchange(before, client_secret=NEW_SECRET)
    await merchant.register_app(client_secret=NEW_SECRET)
    assert (await merchant.exchange(before, 400, client_secret=NEW_SECRET))["error"] == "invalid_subject_token"
    assert (await merchant.exchange(before, 401))["error"] == "invalid_client"


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({}, "invalid_request"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": "refresh_token"}, "invalid_request"),
        ({"grant_type": EXCHANGE, "subject_token_type": "urn:x"}, "invalid_request"),
        ({"client_id": "", "grant_type": "client_credentials"}, "invalid_request"),
        ({"code": "never given"}, "invalid_request"),
        ({"grant_type": ["refresh_token"]}, "unsupported_grant_type"),
    ],
)
async def test_rubbish_is_refused_with_a_reason(merchant: Merchant, body: Json, error: str) -> None:
    refused = await merchant.token(400, **body)

    assert refused["error"] == error
    assert refused["error_description"]


@pytest.mark.parametrize("token", ["", ".", "a.b.c", "é.é.é", "eyJhbGciOiJIUzI1NiJ9..", "x" * 100_000])
async def test_rubbish_for_a_session_token_is_no_subject(merchant: Merchant, token: str) -> None:
    refused = await merchant.token(
        400, grant_type=EXCHANGE, subject_token=token, subject_token_type=ID_TOKEN, requested_token_type=OFFLINE
    )

    assert refused["error"] == "invalid_subject_token"


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff"])
async def test_a_body_that_is_no_object_is_refused(merchant: Merchant, body: bytes) -> None:
    answer = await merchant.api.post(TOKEN_PATH, content=body, headers={"Content-Type": "application/json"})

    assert answer.status_code == 400


async def test_an_uninstall_ends_every_token_at_once(merchant: Merchant) -> None:
    pair, permanent = await merchant.exchange(), await merchant.exchange(expiring=0)
    session = await merchant.session_token()
    await merchant.uninstall()

    assert not await merchant.is_accepted(pair["access_token"])
    assert not await merchant.is_accepted(permanent["access_token"])
    assert (await merchant.refresh(pair["refresh_token"], 401))["error"] == "invalid_client"
    assert (await merchant.exchange(session, 401))["error"] == "invalid_client"
    assert (await merchant.token(400, grant_type="client_credentials"))["error"] == "app_not_installed"


async def test_a_reinstalled_app_gets_new_tokens_and_the_old_ones_stay_dead(merchant: Merchant) -> None:
    pair = await merchant.exchange()
    await merchant.uninstall()
    await merchant.install()

    assert await merchant.refresh(pair["refresh_token"], 401) == INACTIVE
    assert not await merchant.is_accepted(pair["access_token"])
    assert await merchant.is_accepted((await merchant.exchange())["access_token"])


async def test_a_token_is_worth_nothing_in_another_shop(merchant: Merchant, register: RegisterShop) -> None:
    await register(OTHER_DOMAIN)
    await merchant.do("POST", f"/shops/{OTHER_DOMAIN}/install", {"client_id": CLIENT_ID})
    pair = await merchant.exchange()
    stolen = CREDENTIALS | {"grant_type": "refresh_token", "refresh_token": pair["refresh_token"]}

    assert not await merchant.is_accepted(pair["access_token"], OTHER_DOMAIN)
    assert await merchant.do("POST", f"/shops/{OTHER_DOMAIN}/admin/oauth/access_token", stolen, 401) == INACTIVE


async def test_another_apps_refresh_token_is_refused(merchant: Merchant) -> None:
    await merchant.do("PUT", "/apps/other", {"client_secret": SECRET})
    await merchant.do("POST", f"/shops/{DOMAIN}/install", {"client_id": "other"})
    pair = await merchant.exchange()
    stolen = {"client_id": "other", "client_secret": SECRET, "grant_type": "refresh_token"}

    assert await merchant.do("POST", TOKEN_PATH, stolen | {"refresh_token": pair["refresh_token"]}, 401) == INACTIVE


async def test_an_unknown_shop_is_not_found(api: httpx.AsyncClient) -> None:
    answer = await api.post(f"/shops/{OTHER_DOMAIN}/admin/oauth/access_token", json=CREDENTIALS)

    assert answer.status_code == 404
