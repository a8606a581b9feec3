"""Discounts, gift cards and store credit: what an app gives a customer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from tests.simulator.conftest import Clock

from .conftest import Admin, Json, codes

DISCOUNT = """codeDiscountNode { id codeDiscount { __typename ... on DiscountCodeBasic {
    title status usageLimit appliesOncePerCustomer startsAt endsAt codes(first: 1) { nodes { code } }
    context { __typename ... on DiscountCustomers { customers { id } } }
    minimumRequirement { ... on DiscountMinimumSubtotal { greaterThanOrEqualToSubtotal { amount } } }
    customerGets { value { ... on DiscountPercentage { percentage } ... on DiscountAmount { amount { amount } } } }
  } ... on DiscountCodeFreeShipping { title status } } } userErrors { field code message }"""
BASIC = f"""mutation Create($discount: DiscountCodeBasicInput!) {{
  discountCodeBasicCreate(basicCodeDiscount: $discount) {{ {DISCOUNT} }} }}"""
SHIPPING = f"""mutation Create($discount: DiscountCodeFreeShippingInput!) {{
  discountCodeFreeShippingCreate(freeShippingCodeDiscount: $discount) {{ {DISCOUNT} }} }}"""
BY_CODE = """query ($code: String!) { codeDiscountNodeByCode(code: $code) { id codeDiscount {
  ... on DiscountCodeBasic { status } } } }"""


def wanted(**fields: object) -> Json:
    basic: Json = {
        "title": "Reward",
        "code": "REWARD-1",
        "startsAt": "2026-01-01T00:00:00Z",
        "usageLimit": 1,
        "context": {"all": "ALL"},
        "customerGets": {"value": {"percentage": 0.1}, "items": {"all": True}},
    }
    return {name: value for name, value in (basic | fields).items() if value is not None}


async def create(admin: Admin, mutation: str = BASIC, **fields: object) -> Json:
    (payload,) = (await admin.data(mutation, discount=wanted(**fields))).values()
    found: Json = payload
    return found


async def a_customer(admin: Admin) -> str:
    found: str = (await admin.control("GET", "customers"))["customers"][0]["admin_graphql_api_id"]
    return found


@pytest.mark.conformance
async def test_a_code_is_created_and_found_in_any_case(admin: Admin) -> None:
    customer = await a_customer(admin)
    payload = await create(
        admin,
        context={"customers": {"add": [customer]}},
        minimumRequirement={"subtotal": {"greaterThanOrEqualToSubtotal": "25.00"}},
        appliesOncePerCustomer=True,
    )
    discount = payload["codeDiscountNode"]["codeDiscount"]
    found = await admin.data(BY_CODE, code="reward-1")

    assert payload["userErrors"] == []
    assert discount["codes"]["nodes"] == [{"code": "REWARD-1"}]
    assert discount["context"]["customers"] == [{"id": customer}]
    assert Decimal(discount["minimumRequirement"]["greaterThanOrEqualToSubtotal"]["amount"]) == 25
    assert discount["customerGets"]["value"] == {"percentage": 0.1}
    assert (discount["usageLimit"], discount["appliesOncePerCustomer"]) == (1, True)
    assert found["codeDiscountNodeByCode"]["id"] == payload["codeDiscountNode"]["id"]


DISCOUNT_ERRORS: list[tuple[str, Json, str]] = [
    ("BLANK", {"title": ""}, "title"),
    ("BLANK", {"code": None}, "code"),
    ("BLANK", {"startsAt": None}, "startsAt"),
    ("TOO_LONG", {"code": "A" * 256}, "code"),
    ("END_DATE_BEFORE_START_DATE", {"endsAt": "2025-01-01T00:00:00Z"}, "endsAt"),
    ("VALUE_OUTSIDE_RANGE", {"customerGets": {"value": {"percentage": 10}, "items": {"all": True}}}, "customerGets"),
    ("INVALID", {"customerGets": {"value": {}, "items": {"all": True}}}, "customerGets"),
    ("INVALID", {"context": {"customers": {"add": ["gid://shopify/Customer/1"]}}}, "context"),
]


@pytest.mark.conformance
@pytest.mark.parametrize(("code", "fields", "place"), DISCOUNT_ERRORS)
async def test_a_discount_that_cannot_be_is_refused(admin: Admin, code: str, fields: Json, place: str) -> None:
    payload = await create(admin, **fields)

    assert [(error["code"], error["field"][:2]) for error in payload["userErrors"]] == [
        (code, ["basicCodeDiscount", place])
    ]
    assert payload["codeDiscountNode"] is None


@pytest.mark.conformance
@pytest.mark.parametrize("code", ["REWARD-1", "reward-1"])
async def test_a_code_that_exists_is_taken(admin: Admin, code: str) -> None:
    await create(admin)
    payload = await create(admin, code=code)

    assert payload["userErrors"] == [
        {
            "field": ["basicCodeDiscount", "code"],
            "code": "TAKEN",
            "message": "Code must be unique. Please try a different code.",
        }
    ]


@pytest.mark.conformance
async def test_a_code_of_free_shipping_is_taken_as_well(admin: Admin) -> None:
    payload = await create(admin, SHIPPING, customerGets=None)
    again = await create(admin)

    assert payload["codeDiscountNode"]["codeDiscount"] == {
        "__typename": "DiscountCodeFreeShipping",
        "title": "Reward",
        "status": "ACTIVE",
    }
    assert codes(again) == ["TAKEN"]


@pytest.mark.conformance
async def test_a_discount_ends_when_it_is_deactivated(admin: Admin) -> None:
    made = await create(admin)
    data = await admin.data(
        """mutation ($id: ID!) { discountCodeDeactivate(id: $id) { codeDiscountNode { codeDiscount {
             ... on DiscountCodeBasic { status } } } userErrors { code } } }""",
        id=made["codeDiscountNode"]["id"],
    )

    assert data["discountCodeDeactivate"]["codeDiscountNode"]["codeDiscount"] == {"status": "EXPIRED"}
    assert codes(await create(admin)) == ["TAKEN"]


@pytest.mark.conformance
async def test_the_code_of_a_deleted_discount_is_free_again(admin: Admin) -> None:
    made = await create(admin)
    delete = "mutation ($id: ID!) { discountCodeDelete(id: $id) { deletedCodeDiscountId userErrors { code } } }"
    identifier = made["codeDiscountNode"]["id"]
    data = await admin.data(delete, id=identifier)
    again = await admin.data(delete, id=identifier)

    assert data["discountCodeDelete"] == {"deletedCodeDiscountId": identifier, "userErrors": []}
    assert codes(again["discountCodeDelete"]) == ["INVALID"]
    assert (await admin.data(BY_CODE, code="REWARD-1"))["codeDiscountNodeByCode"] is None
    assert codes(await create(admin)) == []


async def test_a_discount_is_scheduled_runs_and_expires(admin: Admin, clock: Clock) -> None:
    now = datetime.now(UTC)
    starts, ends = now + timedelta(hours=1), now + timedelta(hours=2)
    await create(admin, startsAt=starts.isoformat(), endsAt=ends.isoformat())
    seen = []
    for _ in range(3):
        found = await admin.data(BY_CODE, code="REWARD-1")
        seen.append(found["codeDiscountNodeByCode"]["codeDiscount"]["status"])
        clock.advance(minutes=61)

    assert seen == ["SCHEDULED", "ACTIVE", "EXPIRED"]


GIFT_CARD = """mutation ($input: GiftCardCreateInput!) { giftCardCreate(input: $input) { giftCardCode giftCard {
  id enabled initialValue { amount currencyCode } balance { amount } lastCharacters customer { id } expiresOn note }
  userErrors { field code message } } }"""


async def give(admin: Admin, **fields: object) -> Json:
    money = {"amount": "10.00", "currencyCode": "USD"}
    data = await admin.data(GIFT_CARD, input={"initialAmount": money} | fields)
    found: Json = data["giftCardCreate"]
    return found


@pytest.mark.conformance
async def test_a_gift_card_is_given_and_its_code_shown_once(admin: Admin) -> None:
    customer = await a_customer(admin)
    payload = await give(admin, customerId=customer, expiresOn="2030-12-31", note="Points", code="GIVE ME-1234")
    card = payload["giftCard"]
    again = await admin.data("query ($id: ID!) { giftCard(id: $id) { lastCharacters maskedCode } }", id=card["id"])

    assert payload["giftCardCode"] == "GIVEME1234"
    assert (card["customer"]["id"], card["expiresOn"], card["note"]) == (customer, "2030-12-31", "Points")
    assert (card["enabled"], card["initialValue"]) == (True, {"amount": "10.0", "currencyCode": "USD"})
    assert again["giftCard"]["lastCharacters"] == "1234"
    assert "GIVEME" not in again["giftCard"]["maskedCode"]


@pytest.mark.conformance
@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"initialAmount": {"amount": "0", "currencyCode": "USD"}}, "GREATER_THAN"),
        ({"code": "SHORT"}, "TOO_SHORT"),
        ({"code": "A" * 21}, "TOO_LONG"),
        ({"code": "WRONG!WRONG!"}, "INVALID"),
        ({"customerId": "gid://shopify/Customer/1"}, "CUSTOMER_NOT_FOUND"),
        ({"initialAmount": None}, "MISSING_ARGUMENT"),
    ],
)
async def test_a_gift_card_that_cannot_be_is_refused(admin: Admin, fields: Json, code: str) -> None:
    assert codes(await give(admin, **fields)) == [code]


@pytest.mark.conformance
async def test_a_gift_cards_code_is_taken(admin: Admin) -> None:
    await give(admin, code="ABCD EFGH")

    assert codes(await give(admin, code="abcdefgh")) == ["TAKEN"]


@pytest.mark.conformance
async def test_a_gift_card_is_deactivated_for_ever(admin: Admin) -> None:
    made = await give(admin)
    off = """mutation ($id: ID!) { giftCardDeactivate(id: $id) { giftCard { enabled deactivatedAt }
                                                                 userErrors { code } } }"""
    first = await admin.data(off, id=made["giftCard"]["id"])
    second = await admin.data(off, id=made["giftCard"]["id"])
    unknown = await admin.data(off, id="gid://shopify/GiftCard/1")

    assert first == second
    assert first["giftCardDeactivate"]["giftCard"]["enabled"] is False
    assert codes(unknown["giftCardDeactivate"]) == ["GIFT_CARD_NOT_FOUND"]


TRANSACTION = """storeCreditAccountTransaction { id amount { amount currencyCode } balanceAfterTransaction { amount }
  account { id balance { amount } owner { ... on Customer { id } } } } userErrors { field code message }"""
CREDIT = f"""mutation ($id: ID!, $money: MoneyInput!, $ends: DateTime) {{
  storeCreditAccountCredit(id: $id, creditInput: {{ creditAmount: $money, expiresAt: $ends }}) {{ {TRANSACTION} }} }}"""
DEBIT = f"""mutation ($id: ID!, $money: MoneyInput!) {{
  storeCreditAccountDebit(id: $id, debitInput: {{ debitAmount: $money }}) {{ {TRANSACTION} }} }}"""


async def book(admin: Admin, mutation: str, identifier: str, amount: str, currency: str = "USD", **more: str) -> Json:
    money = {"amount": amount, "currencyCode": currency}
    (payload,) = (await admin.data(mutation, id=identifier, money=money, **more)).values()
    found: Json = payload
    return found


@pytest.mark.conformance
async def test_the_first_credit_opens_a_customers_account(admin: Admin) -> None:
    customer = await a_customer(admin)
    first = (await book(admin, CREDIT, customer, "12.50"))["storeCreditAccountTransaction"]
    second = (await book(admin, CREDIT, customer, "2.50"))["storeCreditAccountTransaction"]
    third = (await book(admin, DEBIT, first["account"]["id"], "5"))["storeCreditAccountTransaction"]

    assert first["account"]["owner"] == {"id": customer}
    assert first["account"]["id"] == second["account"]["id"] == third["account"]["id"]
    assert [Decimal(one["balanceAfterTransaction"]["amount"]) for one in (first, second, third)] == [
        Decimal("12.5"),
        15,
        10,
    ]


async def test_an_accounts_transactions_are_read_back(admin: Admin) -> None:
    customer = await a_customer(admin)
    await book(admin, CREDIT, customer, "12.50")
    await book(admin, DEBIT, customer, "2")
    data = await admin.data(
        """query ($id: ID!) { customer(id: $id) { storeCreditAccounts(first: 1) { nodes { balance { amount }
             transactions(first: 5, sortKey: CREATED_AT, reverse: true) { nodes {
               __typename amount { amount } balanceAfterTransaction { amount } createdAt } } } } } }""",
        id=customer,
    )
    (account,) = data["customer"]["storeCreditAccounts"]["nodes"]

    assert Decimal(account["balance"]["amount"]) == Decimal("10.5")
    assert [(one["__typename"], Decimal(one["amount"]["amount"])) for one in account["transactions"]["nodes"]] == [
        ("StoreCreditAccountDebitTransaction", -2),
        ("StoreCreditAccountCreditTransaction", Decimal("12.5")),
    ]


@pytest.mark.conformance
@pytest.mark.parametrize(
    ("mutation", "identifier", "amount", "currency", "code"),
    [
        (CREDIT, "gid://shopify/Customer/1", "1", "USD", "OWNER_NOT_FOUND"),
        (CREDIT, "gid://shopify/StoreCreditAccount/1", "1", "USD", "ACCOUNT_NOT_FOUND"),
        (CREDIT, None, "0", "USD", "NEGATIVE_OR_ZERO_AMOUNT"),
        (CREDIT, None, "1", "EUR", "MISMATCHING_CURRENCY"),
        (CREDIT, None, "100000", "USD", "CREDIT_LIMIT_EXCEEDED"),
        (DEBIT, None, "-1", "USD", "NEGATIVE_OR_ZERO_AMOUNT"),
        (DEBIT, None, "1000", "USD", "INSUFFICIENT_FUNDS"),
        (DEBIT, None, "1", "EUR", "MISMATCHING_CURRENCY"),
        (DEBIT, "gid://shopify/StoreCreditAccount/1", "1", "USD", "ACCOUNT_NOT_FOUND"),
    ],
)
async def test_store_credit_that_cannot_be_booked_is_refused(
    *, admin: Admin, mutation: str, identifier: str | None, amount: str, currency: str, code: str
) -> None:
    opened = await book(admin, CREDIT, await a_customer(admin), "5")
    account = opened["storeCreditAccountTransaction"]["account"]["id"]
    payload = await book(admin, mutation, identifier or account, amount, currency)

    assert codes(payload) == [code]
    assert payload["storeCreditAccountTransaction"] is None


@pytest.mark.conformance
async def test_credit_does_not_expire_before_it_begins(admin: Admin) -> None:
    payload = await book(admin, CREDIT, await a_customer(admin), "5", ends="2020-01-01T00:00:00Z")

    assert codes(payload) == ["EXPIRES_AT_IN_PAST"]


@pytest.mark.parametrize("amount", ["rubbish", "NaN", "Infinity", ""])
async def test_an_amount_that_is_no_number_is_an_error_of_the_request(admin: Admin, amount: str) -> None:
    money = {"amount": amount, "currencyCode": "USD"}
    error = await admin.error(CREDIT, id=await a_customer(admin), money=money)

    assert error["message"] == f"'{amount}' is not a valid Decimal"


@pytest.mark.parametrize("starts", ["rubbish", "2026-13-01T00:00:00Z"])
async def test_a_time_that_is_none_is_an_error_of_the_request(admin: Admin, starts: str) -> None:
    error = await admin.error(BASIC, discount=wanted(startsAt=starts))

    assert error["message"] == f"'{starts}' is not a valid DateTime"


async def test_a_time_without_a_zone_is_utc(admin: Admin) -> None:
    payload = await create(admin, startsAt="2026-01-01T00:00:00", endsAt="2030-01-01T00:00:00")

    assert payload["codeDiscountNode"]["codeDiscount"]["startsAt"] == "2026-01-01T00:00:00Z"
