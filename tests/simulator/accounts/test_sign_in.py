"""A customer signs in as Shopify documents it for public clients: PKCE, one use of each code and refresh token."""

from __future__ import annotations

import asyncio

import httpx
import jwt
import pytest

from tests.simulator.conftest import DOMAIN, Clock, RegisterShop

from .conftest import CLIENT_ID, VERIFIER, Json, Phone, told

pytestmark = pytest.mark.conformance


async def claims_of(phone: Phone, id_token: str) -> Json:
    """Return what an id token says, checked as a backend has to: by the published key of its `kid`."""
    published = jwt.PyJWKSet.from_dict((await phone.api.get(phone.places["jwks_uri"])).json())
    key = published[jwt.get_unverified_header(id_token)["kid"]]
    found: Json = jwt.decode(
        id_token,
        key.key,
        algorithms=["RS256"],
        audience=CLIENT_ID,
        issuer=phone.places["issuer"],
        options={"require": ["iss", "aud", "sub", "exp", "iat", "nonce"], "verify_exp": False},
    )
    return found


async def test_discovery_names_every_endpoint_where_it_was_asked(phone: Phone, named: Phone) -> None:
    places = ("authorization_endpoint", "token_endpoint", "end_session_endpoint", "jwks_uri", "graphql_api")

    assert all(phone.places[place].startswith(f"http://simulator/shops/{DOMAIN}/") for place in places)
    assert all(named.places[place].startswith(f"https://{DOMAIN}/") for place in places)
    assert phone.places["issuer"] == named.places["issuer"]
    assert phone.places["issuer"].startswith("https://shopify.com/authentication/")
    assert phone.places["code_challenge_methods_supported"] == ["S256"]


async def test_a_sign_in_gives_tokens_and_a_signed_identity(phone: Phone) -> None:
    customer = (await phone.customers())[1]
    answer = await phone.ask(login_hint=customer["email"])
    assert answer.headers["location"].startswith(phone.redirect)
    assert told(answer)["state"] == "a state"
    given = await phone.collect(told(answer)["code"])
    claims = await claims_of(phone, given["id_token"])

    assert given.keys() == {"access_token", "expires_in", "id_token", "refresh_token", "scope", "token_type"}
    assert (claims["sub"], claims["email"], claims["nonce"]) == (str(customer["id"]), customer["email"], "a nonce")


async def test_it_works_by_the_shops_own_name(named: Phone, phone: Phone) -> None:
    hint = str((await phone.customers())[0]["id"])
    given = await named.sign_in(login_hint=hint)

    assert (await claims_of(named, given["id_token"]))["sub"] == hint


async def test_one_chooses_who_to_be_on_a_page(phone: Phone) -> None:
    asked = await phone.ask()
    customer = (await phone.customers())[2]
    chosen = await phone.api.post(asked.url, data={"customer": str(customer["id"])})

    assert customer["email"] in asked.text
    assert "code" in told(chosen)
    again = await phone.ask()
    assert "code" in told(again)


async def test_somebody_who_is_not_a_customer_is_shown_the_page_again(phone: Phone) -> None:
    asked = await phone.ask(login_hint="nobody@example.com")
    chosen = await phone.api.post(asked.url, data={"customer": "1"})

    assert (asked.status_code, chosen.status_code) == (200, 200)


async def test_without_a_page_nobody_is_signed_in_who_was_not_before(phone: Phone) -> None:
    assert told(await phone.ask(prompt="none")) == {"error": "login_required", "state": "a state"}
    await phone.sign_in()
    assert "code" in told(await phone.ask(prompt="none"))


@pytest.mark.parametrize(
    "changes",
    [{"redirect_uri": "https://evil.test/"}, {"redirect_uri": ""}, {"client_id": "nobody"}, {"client_id": None}],
)
async def test_nobody_is_sent_to_an_address_that_was_not_registered(
    phone: Phone, changes: dict[str, str | None]
) -> None:
    answer = await phone.ask(login_hint=str((await phone.customers())[0]["id"]), **changes)

    assert (answer.status_code, "location" in answer.headers) == (400, False)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"scope": "email"}, "invalid_scope"),
        ({"scope": "openid admin"}, "invalid_scope"),
    ],
)
async def test_what_a_public_client_must_not_ask_is_refused(
    phone: Phone, changes: dict[str, str | None], error: str
) -> None:
    found = told(await phone.ask(login_hint=str((await phone.customers())[0]["id"]), **changes))

    assert (found["error"], found["state"]) == (error, "a state")
    assert "code" not in found


@pytest.mark.parametrize(
    "changes",
    [
        {"code_verifier": "another-verifier-of-at-least-forty-three-characters"},
        {"code_verifier": ""},
        {"code_verifier": "short"},
        {"redirect_uri": "https://evil.test/"},
        {"code": "guessed"},
    ],
)
async def test_a_code_is_worth_nothing_without_its_verifier_and_redirect(phone: Phone, changes: dict[str, str]) -> None:
    code = await phone.code()

    assert (await phone.collect(**({"code": code} | changes), status=400))["error"] == "invalid_grant"
    if "code" not in changes:
        await phone.collect(code)


async def test_a_verifier_as_its_own_challenge_proves_nothing(phone: Phone) -> None:
    code = await phone.code(code_challenge=VERIFIER)

    await phone.collect(code, 400)


async def test_a_replayed_code_ends_what_it_gave(phone: Phone) -> None:
    code = await phone.code()
    given = await phone.collect(code)

    assert (await phone.collect(code, 400))["error"] == "invalid_grant"
    assert (await phone.refresh(given["refresh_token"], 400))["error"] == "invalid_grant"
    await phone.query(given["access_token"], "{ customer { id } }", 401)


async def test_raced_collections_of_a_code_give_tokens_to_nobody_or_one(phone: Phone) -> None:
    code = await phone.code()
    fields = {"client_id": CLIENT_ID, "grant_type": "authorization_code", "code": code, "code_verifier": VERIFIER}
    body = fields | {"redirect_uri": phone.redirect}
    raced = await asyncio.gather(*(phone.api.post(phone.places["token_endpoint"], data=body) for _ in range(5)))

    assert sorted(answer.status_code for answer in raced) == [200, 400, 400, 400, 400]


async def test_a_code_waits_five_minutes(phone: Phone, clock: Clock) -> None:
    code = await phone.code()
    clock.advance(minutes=5)

    await phone.collect(code, 400)


async def test_another_client_cannot_collect_a_code(phone: Phone) -> None:
    await phone.api.put(f"/shops/{DOMAIN}/customer-clients/other", json={})
    code = await phone.code()

    assert (await phone.collect(code, 400, client_id="other"))["error"] == "invalid_grant"
    assert (await phone.collect(code, 401, client_id="nobody"))["error"] == "invalid_client"


async def test_a_refresh_token_is_used_once(phone: Phone) -> None:
    first = await phone.sign_in()
    second = await phone.refresh(first["refresh_token"])

    assert second["refresh_token"] != first["refresh_token"]
    assert (await phone.refresh(first["refresh_token"], 400))["error"] == "invalid_grant"


async def test_a_refresh_token_ends_some_day(phone: Phone, clock: Clock) -> None:
    given = await phone.sign_in()
    clock.advance(days=30)

    await phone.refresh(given["refresh_token"], 400)


@pytest.mark.parametrize("fields", [{}, {"grant_type": "password"}])
async def test_other_grants_are_refused(phone: Phone, fields: dict[str, str]) -> None:
    assert (await phone.token(400, **fields))["error"] in {"invalid_request", "unsupported_grant_type"}


async def test_id_tokens_of_before_a_rotation_can_still_be_checked(phone: Phone) -> None:
    before = (await phone.sign_in())["id_token"]
    rotated = (await phone.api.post(f"/shops/{DOMAIN}/customer-keys/rotate", json={})).json()
    after = (await phone.sign_in())["id_token"]

    assert jwt.get_unverified_header(after)["kid"] == rotated["kid"] != jwt.get_unverified_header(before)["kid"]
    assert await claims_of(phone, before)
    assert await claims_of(phone, after)


async def test_a_key_that_was_dropped_is_not_published(phone: Phone) -> None:
    before = (await phone.sign_in())["id_token"]
    await phone.api.post(f"/shops/{DOMAIN}/customer-keys/rotate", json={"keep_old": False})

    with pytest.raises(KeyError):
        await claims_of(phone, before)


async def test_signing_out_ends_every_token_and_goes_where_the_client_registered(phone: Phone) -> None:
    given = await phone.sign_in()
    params = {"id_token_hint": given["id_token"], "post_logout_redirect_uri": "https://shop.test/bye"}
    answer = await phone.api.get(phone.places["end_session_endpoint"], params=params)

    assert (answer.status_code, answer.headers["location"]) == (302, "https://shop.test/bye")
    await phone.refresh(given["refresh_token"], 400)
    assert (await phone.ask()).status_code == 200, "the customer has to sign in again"


@pytest.mark.parametrize("params", [{}, {"id_token_hint": "rubbish"}, {"post_logout_redirect_uri": "https://evil/"}])
async def test_signing_out_sends_nobody_astray(phone: Phone, params: dict[str, str]) -> None:
    given = await phone.sign_in()
    if "post_logout_redirect_uri" in params:
        params = params | {"id_token_hint": given["id_token"]}
    answer = await phone.api.get(phone.places["end_session_endpoint"], params=params)

    assert answer.status_code == 400
    await phone.refresh(given["refresh_token"])


async def test_another_shop_has_other_customers_clients_and_tokens(phone: Phone, register: RegisterShop) -> None:
    other = "other-shop.myshopify.com"
    await register(other)
    elsewhere = Phone(phone.api, f"/shops/{other}")
    elsewhere.redirect = phone.redirect
    await elsewhere.discover()
    given = await phone.sign_in()

    assert (await elsewhere.ask()).status_code == 400
    await elsewhere.query(given["access_token"], "{ customer { id } }", 401)
    mixed = phone.places["token_endpoint"].replace(DOMAIN, other)
    assert (await phone.api.post(mixed, data={"grant_type": "refresh_token"})).status_code == 404


async def test_a_fault_can_be_planned_for_the_token_endpoint(phone: Phone, api: httpx.AsyncClient) -> None:
    code = await phone.code()
    await api.post(f"/shops/{DOMAIN}/oauth/faults", json={"kind": "error_before", "endpoint": "customer_token"})
    answer = await api.post(phone.places["token_endpoint"], data={"client_id": CLIENT_ID})

    assert answer.status_code == 503
    await phone.collect(code)
