"""The Customer Account API answers through Shopify's schema, and says so where a field is not simulated."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from sellflow.simulator.app import create_app
from tests.simulator.conftest import DOMAIN, Clock

from .conftest import CLIENT_ID, Json, Phone

pytestmark = [pytest.mark.conformance, pytest.mark.usefixtures("needs_schema")]

WHO = "{ customer { id firstName lastName displayName emailAddress { emailAddress marketingState } } }"
ORDERS = """
query Orders($first: Int!, $after: String, $reverse: Boolean) {
  customer {
    orders(first: $first, after: $after, reverse: $reverse) {
      nodes { id name number financialStatus totalPrice { amount currencyCode } totalRefunded { amount } cancelledAt }
      pageInfo { hasNextPage endCursor }
    }
  }
}
"""


async def place(phone: Phone, customer_id: int) -> Json:
    answer = await phone.api.post(
        f"/shops/{DOMAIN}/orders", json={"customer_id": customer_id, "lines": [{"price": "10"}], "shipping": "5"}
    )
    assert answer.status_code == 201
    found: Json = answer.json()
    return found


async def test_a_customer_reads_who_they_are(phone: Phone) -> None:
    customer = (await phone.customers())[0]
    token = (await phone.sign_in())["access_token"]
    found = (await phone.query(token, WHO))["data"]["customer"]

    assert found["id"] == customer["admin_graphql_api_id"]
    assert found["emailAddress"]["emailAddress"] == customer["email"]
    assert (found["firstName"], found["lastName"]) == (customer["first_name"], customer["last_name"])
    assert (await phone.query(f"Bearer {token}", WHO))["data"]["customer"] == found


async def test_a_customer_reads_their_own_orders_by_the_page(phone: Phone) -> None:
    mine, other = (await phone.customers())[:2]
    placed = [await place(phone, mine["id"]) for _ in range(3)]
    await place(phone, other["id"])
    token = (await phone.sign_in())["access_token"]
    page = (await phone.query(token, ORDERS, first=2))["data"]["customer"]["orders"]
    rest = (await phone.query(token, ORDERS, first=2, after=page["pageInfo"]["endCursor"]))["data"]["customer"][
        "orders"
    ]
    newest = (await phone.query(token, ORDERS, first=1, reverse=True))["data"]["customer"]["orders"]["nodes"]

    assert [node["name"] for node in page["nodes"] + rest["nodes"]] == [order["name"] for order in placed]
    assert (page["pageInfo"]["hasNextPage"], rest["pageInfo"]["hasNextPage"]) == (True, False)
    assert newest[0]["id"] == placed[-1]["admin_graphql_api_id"]
    assert page["nodes"][0]["totalPrice"] == {"amount": placed[0]["total_price"], "currencyCode": "USD"}
    assert page["nodes"][0]["financialStatus"] == "PAID"


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("{ customer { phoneNumber { phoneNumber } imageUrl } }", "Customer.imageUrl is not simulated"),
        ("{ customer { orders(first: 1) { nodes { statusPageUrl } } } }", None),
        ('{ customer { orders(first: 1, query: "x") { nodes { id } } } }', "the argument query is not simulated"),
        ("{ customer { orders { nodes { id } } } }", "first must be from 1 to 250"),
        ("{ customer { favouriteColour } }", "Cannot query field 'favouriteColour'"),
        ('mutation { customerUpdate(input: {firstName: "x"}) { customer { id } } }', "is not simulated"),
        ("{", "Syntax Error"),
        ("", "Syntax Error"),
    ],
)
async def test_what_is_not_simulated_is_named(phone: Phone, query: str, message: str | None) -> None:
    found = await phone.query((await phone.sign_in())["access_token"], query)

    if message is None:
        assert found["data"] is not None, "a field of an empty list is never asked for"
    else:
        assert message in found["errors"][0]["message"]


@pytest.mark.parametrize("token", ["", "shcat_unknown", "Bearer "])
async def test_nobody_reads_without_a_token(phone: Phone, token: str) -> None:
    await phone.query(token, WHO, 401)


async def test_a_token_ends_after_its_time(phone: Phone, clock: Clock) -> None:
    given = await phone.sign_in()
    clock.advance(seconds=given["expires_in"])

    await phone.query(given["access_token"], WHO, 401)
    await phone.query((await phone.refresh(given["refresh_token"]))["access_token"], WHO)


async def test_another_version_is_not_found(phone: Phone) -> None:
    answer = await phone.api.post(phone.places["graphql_api"].replace("2026-10", "2020-01"), json={"query": WHO})

    assert answer.status_code == 404


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"query": 1}', b'{"query": "{ shop { name } }", "variables": []}'])
async def test_a_body_of_another_shape_breaks_nothing(phone: Phone, body: bytes) -> None:
    token = (await phone.sign_in())["access_token"]
    answer = await phone.api.post(phone.places["graphql_api"], content=body, headers={"Authorization": token})

    assert answer.status_code in (200, 400)


async def test_without_the_schema_it_says_how_to_get_it(tmp_path: Path) -> None:
    app = create_app(schema_dir=tmp_path)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://simulator") as api:
        shop = {"webhook_url": "http://127.0.0.1:1/", "client_secret": "hush", "products": 1, "customers": 1}
        assert (await api.put(f"/shops/{DOMAIN}", json=shop)).status_code == 200
        client = await api.put(f"/shops/{DOMAIN}/customer-clients/{CLIENT_ID}", json={})
        phone = Phone(api, f"/shops/{DOMAIN}")
        phone.redirect = client.json()["redirect_uris"][0]
        await phone.discover()
        refused = await phone.query((await phone.sign_in())["access_token"], WHO, 501)

    assert "make install" in refused["errors"][0]["message"]
    assert str(tmp_path) in refused["errors"][0]["message"]
