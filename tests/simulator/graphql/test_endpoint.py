"""The endpoint itself: who may call, what is no call at all, and what is not simulated."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from graphql import GraphQLObjectType
from shopify_app import ShopifyApp
from starlette.applications import Starlette

from sellflow.simulator.app import create_app
from sellflow.simulator.graphql.execution import Engine
from tests.simulator.conftest import DOMAIN, Clock

from .conftest import PATH, Admin, Json

SHOP = {"query": "{ shop { myshopifyDomain } }"}
INVALID_TOKEN = {"errors": "[API] Invalid API key or access token (unrecognized login or wrong password)"}


@pytest.mark.conformance
@pytest.mark.parametrize("headers", [{}, {"X-Shopify-Access-Token": ""}, {"X-Shopify-Access-Token": "shpat_rubbish"}])
async def test_a_call_needs_a_token(admin: Admin, headers: dict[str, str]) -> None:
    answer = await admin.api.post(PATH, json=SHOP, headers=headers)

    assert (answer.status_code, answer.json()) == (401, INVALID_TOKEN)


@pytest.mark.conformance
async def test_the_token_of_an_uninstalled_app_is_worth_nothing(admin: Admin) -> None:
    await admin.api.put("/apps/an-app", json={"client_secret": "s" * 32, "app_url": "http://app.test/"})
    await admin.control("POST", "install", client_id="an-app")
    minted = await admin.control("POST", "access-token", client_id="an-app", scopes=[])
    admin.token = minted["access_token"]
    statuses = [(await admin.call(SHOP["query"])).status_code]
    await admin.control("POST", "uninstall")

    assert [*statuses, (await admin.call(SHOP["query"])).status_code] == [200, 401]


async def test_another_version_is_not_found_and_the_answer_says_which_is(admin: Admin) -> None:
    answer = await admin.api.post(
        PATH.replace("2026-10", "2025-01"), json=SHOP, headers={"X-Shopify-Access-Token": admin.token}
    )

    assert answer.status_code == 404
    assert "2026-10" in answer.json()["errors"]
    assert "2025-01" in answer.json()["errors"]


async def test_an_unknown_shop_is_not_found(admin: Admin) -> None:
    answer = await admin.api.post(PATH.replace(DOMAIN, "no-shop.myshopify.com"), json=SHOP)

    assert answer.status_code == 404


@pytest.mark.conformance
async def test_a_shop_is_served_under_its_own_name(admin: Admin) -> None:
    answer = await admin.api.post(
        f"http://{DOMAIN}/admin/api/2026-10/graphql.json",
        json=SHOP,
        headers={"X-Shopify-Access-Token": admin.token},
    )

    assert answer.json()["data"] == {"shop": {"myshopifyDomain": DOMAIN}}


@pytest.mark.conformance
async def test_shopifys_own_library_gets_its_answer(admin: Admin, app: Starlette) -> None:
    library = ShopifyApp("an-app", "s" * 32)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client:
        result = await library.admin_graphql_request_async(
            SHOP["query"], "demo-shop", admin.token, "2026-10", http_client=client
        )

    assert (result.ok, result.data) == (True, {"shop": {"myshopifyDomain": DOMAIN}})
    assert result.extensions is not None
    assert result.extensions["cost"]["actualQueryCost"] == 1


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b"{", b'{"query": 1}', b'{"query": "{ shop { id } }", "variables": [1]}', b"\xff"]
)
async def test_rubbish_is_a_bad_request(admin: Admin, body: bytes) -> None:
    answer = await admin.api.post(PATH, content=body, headers={"X-Shopify-Access-Token": admin.token})

    assert answer.status_code == 400
    assert (await admin.counts())["refused"] == 1


@pytest.mark.conformance
@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("{ shop {", "Syntax Error"),
        ("{ shop { colour } }", "Cannot query field 'colour' on type 'Shop'"),
        ('{ orders(first: "two") { nodes { id } } }', "Int cannot represent non-integer value"),
        ("query ($n: Int!) { orders(first: $n) { nodes { id } } }", "$n"),
        ("{ order { id } }", "of type 'ID!' is required"),
        ('{ node(id: "rubbish") { id } }', "Invalid global id 'rubbish'"),
    ],
)
async def test_a_document_is_checked_against_the_real_schema(admin: Admin, query: str, message: str) -> None:
    error = await admin.error(query)

    assert message in error["message"]


@pytest.mark.parametrize("text", ["{ shop " * 20_000, "{" + "shop { id } " * 20_000 + "}"])
async def test_a_document_without_end_is_refused(admin: Admin, text: str) -> None:
    assert "Parsing aborted" in (await admin.error(text))["message"]


@pytest.mark.parametrize("depth", [10, 90, 180])
async def test_a_deep_document_is_answered_or_refused(admin: Admin, depth: int) -> None:
    text = "{ customers(first: 1) { nodes { id" + " lastOrder { customer { id" * depth + " } }" * depth + " } } }"
    answer = await admin.call(text)

    assert answer.status_code == 200
    assert answer.json().keys() & {"data", "errors"}


async def test_an_operation_is_chosen_by_its_name(admin: Admin) -> None:
    text = "query A { shop { id } } query B { shop { name } }"
    chosen = await admin.call(text, operationName="B")
    missing = await admin.call(text)

    assert chosen.json()["data"] == {"shop": {"name": "demo-shop"}}
    assert "errors" in missing.json()


@pytest.mark.parametrize(
    ("query", "what"),
    [
        ("{ orders(first: 1) { nodes { risks { level } } } }", "Order.risks"),
        ("{ shop { paymentSettings { supportedDigitalWallets } } }", "Shop.paymentSettings"),
        ("{ draftOrders(first: 1) { nodes { id } } }", "QueryRoot.draftOrders"),
        ('mutation { orderClose(input: { id: "gid://shopify/Order/1" }) { order { id } } }', "Mutation.orderClose"),
        (
            "query { ...F } fragment F on QueryRoot { shop { ...G } } fragment G on Shop { alerts { action { url } } }",
            "Shop.alerts",
        ),
        ("{ currentAppInstallation { app { developerName } } }", "App.developerName"),
        ('{ node(id: "gid://shopify/DraftOrder/1") { id } }', "finding a DraftOrder by its id"),
        ("{ orders(first: 1, sortKey: TOTAL_PRICE) { nodes { id } } }", "the sort key TOTAL_PRICE"),
        ('{ orders(first: 1, savedSearchId: "gid://shopify/SavedSearch/1") { nodes { id } } }', "savedSearchId"),
    ],
)
async def test_what_is_not_simulated_is_named(admin: Admin, query: str, what: str) -> None:
    error = await admin.error(query)

    assert what in error["message"]
    assert error["message"].endswith("is not simulated")
    assert error["extensions"]["code"] == "NOT_SIMULATED"


async def test_a_mutation_that_asks_for_what_is_not_simulated_has_no_effect(admin: Admin) -> None:
    (customer, *_) = (await admin.control("GET", "customers"))["customers"]
    identifier = customer["admin_graphql_api_id"]
    await admin.error(
        'mutation ($id: ID!) { tagsAdd(id: $id, tags: ["vip"]) { node { ... on Customer { market { id } } } } }',
        id=identifier,
    )
    data = await admin.data("query ($id: ID!) { customer(id: $id) { tags } }", id=identifier)

    assert data["customer"]["tags"] == []


def test_every_simulated_field_is_one_of_the_schemas(engine: Engine) -> None:
    for name, fields in engine.types.fields.items():
        kind = engine.schema.type_map[name]
        assert isinstance(kind, GraphQLObjectType)
        assert set(fields) <= set(kind.fields), name


async def test_a_schema_that_is_not_there_is_asked_for(clock: Clock, tmp_path: Path) -> None:
    bare = create_app(now=clock, schema_dir=tmp_path)
    async with (
        bare.router.lifespan_context(bare),
        httpx.AsyncClient(transport=httpx.ASGITransport(bare), base_url="http://simulator") as api,
    ):
        shop = {"webhook_url": "http://127.0.0.1:1/nobody", "client_secret": "hush"}
        await api.put(f"/shops/{DOMAIN}", json=shop)
        token = (await api.post(f"/shops/{DOMAIN}/access-token", json={"scopes": []})).json()["access_token"]
        answer = await api.post(PATH, json=SHOP, headers={"X-Shopify-Access-Token": token})

    (error,) = answer.json()["errors"]
    assert answer.status_code == 501
    assert error["extensions"]["code"] == "simulator.schema_missing"
    for hint in ("make install", "npm pack @shopify/dev-mcp@", "admin_2026-10.json.gz", str(tmp_path)):
        assert hint in error["message"]


async def test_calls_at_the_same_time_share_one_bucket(admin: Admin) -> None:
    await admin.control("PUT", "admin-api/bucket", restore_rate=0.0001, maximum=100, level=100)
    await admin.control("POST", "admin-api/faults", kind="latency", seconds=0.1, next=20)
    answers = await asyncio.gather(*(admin.call("{ orders(first: 28) { nodes { id } } }") for _ in range(5)))
    bodies: list[Json] = [answer.json() for answer in answers]

    # Each asks for 30 and, with no orders, uses 2: three fit at a time, however little they use in the end.
    assert sum("errors" in body for body in bodies) == 2
    assert (await admin.counts())["points_used"] == 6


CREATE = """mutation ($name: String!, $amount: Decimal!) { appSubscriptionCreate(
  name: $name, returnUrl: "http://app.test/back?shop=demo", trialDays: 7, test: true,
  lineItems: [{ plan: { appRecurringPricingDetails: { price: { amount: $amount, currencyCode: USD } } } }]
) { appSubscription { id status } confirmationUrl userErrors { field message } } }"""
ACTIVE = """{ currentAppInstallation { activeSubscriptions { id name status test trialDays currentPeriodEnd
  lineItems { plan { pricingDetails { ... on AppRecurringPricing { price { amount } interval } } } } } } }"""


async def active(admin: Admin) -> list[Json]:
    found: list[Json] = (await admin.data(ACTIVE))["currentAppInstallation"]["activeSubscriptions"]
    return found


@pytest.mark.conformance
async def test_a_subscription_runs_when_the_merchant_has_approved_it(admin: Admin) -> None:
    made = (await admin.data(CREATE, name="Grow", amount="49.00"))["appSubscriptionCreate"]
    before = await active(admin)
    page = await admin.api.get(made["confirmationUrl"])
    answer = await admin.api.post(made["confirmationUrl"], data={"answer": "approve"})
    (found,) = await active(admin)

    assert (made["userErrors"], made["appSubscription"]["status"], before) == ([], "PENDING", [])
    assert "Grow: 49.00 USD" in page.text
    assert answer.status_code == 302
    assert answer.headers["Location"].startswith("http://app.test/back?shop=demo&charge_id=")
    assert (found["id"], found["status"], found["trialDays"]) == (made["appSubscription"]["id"], "ACTIVE", 7)
    assert found["lineItems"][0]["plan"]["pricingDetails"]["interval"] == "EVERY_30_DAYS"


@pytest.mark.conformance
async def test_a_declined_subscription_never_runs(admin: Admin) -> None:
    made = (await admin.data(CREATE, name="Grow", amount="49.00"))["appSubscriptionCreate"]
    await admin.api.post(made["confirmationUrl"], data={"answer": "decline"})
    await admin.api.post(made["confirmationUrl"], data={"answer": "approve"})

    assert await active(admin) == []


@pytest.mark.conformance
async def test_an_app_has_one_subscription_that_runs(admin: Admin) -> None:
    for name in ("Grow", "Scale"):
        made = (await admin.data(CREATE, name=name, amount="49.00"))["appSubscriptionCreate"]
        await admin.api.post(made["confirmationUrl"], data={"answer": "approve"})

    assert [one["name"] for one in await active(admin)] == ["Scale"]


@pytest.mark.conformance
async def test_a_subscription_is_cancelled(admin: Admin) -> None:
    made = (await admin.data(CREATE, name="Grow", amount="49.00"))["appSubscriptionCreate"]
    await admin.api.post(made["confirmationUrl"], data={"answer": "approve"})
    cancel = """mutation ($id: ID!) { appSubscriptionCancel(id: $id) { appSubscription { status }
                                                                    userErrors { message } } }"""
    data = await admin.data(cancel, id=made["appSubscription"]["id"])
    unknown = await admin.data(cancel, id="gid://shopify/AppSubscription/1")

    assert data["appSubscriptionCancel"]["appSubscription"] == {"status": "CANCELLED"}
    assert unknown["appSubscriptionCancel"]["userErrors"] != []
    assert await active(admin) == []


async def test_the_app_sees_its_scopes_and_what_it_is_told_of(admin: Admin) -> None:
    data = await admin.data(
        """{ currentAppInstallation { accessScopes { handle } }
             webhookSubscriptions(first: 50, topics: [ORDERS_PAID]) { nodes { topic uri format } } }"""
    )

    assert [one["handle"] for one in data["currentAppInstallation"]["accessScopes"]] == [
        "read_orders",
        "write_inventory",
    ]
    (subscription,) = data["webhookSubscriptions"]["nodes"]
    assert (subscription["topic"], subscription["format"]) == ("ORDERS_PAID", "JSON")


def test_a_simulator_that_nobody_queries_is_without_graphql() -> None:
    """It is most of the memory that a simulator takes, and `sellflow up` starts one for everybody."""
    look = "import sys; from sellflow.simulator.app import create_app; create_app(); print('graphql' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)

    assert found.stdout == "False\n"
