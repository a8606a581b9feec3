"""`@idempotent(key:)`: one effect a key."""

from __future__ import annotations

import asyncio
import re

import pytest

from sellflow.simulator.graphql.idempotency import Attempt, Conflict, Keys
from sellflow.simulator.graphql.schema import AdminSchema, demands_key
from tests.simulator.conftest import DOMAIN

from .conftest import ADJUST, Admin, Stock, codes


@pytest.mark.conformance
async def test_the_same_key_gives_the_same_answer_without_a_second_effect(stock: Stock) -> None:
    before = await stock.available()
    answers = [await stock.adjust("one", -2) for _ in range(3)]

    assert answers[0] == answers[1] == answers[2]
    assert answers[0]["inventoryAdjustmentGroup"]["changes"][0]["quantityAfterChange"] == before - 2
    assert await stock.available() == before - 2


@pytest.mark.conformance
async def test_another_key_is_another_effect(stock: Stock) -> None:
    before = await stock.available()
    await stock.adjust("one", 1)
    await stock.adjust("two", 1)

    assert await stock.available() == before + 2


@pytest.mark.conformance
async def test_a_key_does_not_fit_other_parameters(stock: Stock) -> None:
    before = await stock.available()
    await stock.adjust("one", 1)
    answer = await stock.adjust("one", 2)

    assert codes(answer) == ["IDEMPOTENCY_KEY_PARAMETER_MISMATCH"]
    assert answer["inventoryAdjustmentGroup"] is None
    assert await stock.available() == before + 1


@pytest.mark.conformance
async def test_the_order_of_an_inputs_fields_makes_no_other_parameters(stock: Stock) -> None:
    await stock.adjust("one", 1)
    mixed = dict(reversed(stock.change(1).items()))
    data = await stock.admin.data(ADJUST, input=mixed, key="one")

    assert codes(data["inventoryAdjustQuantities"]) == []


@pytest.mark.conformance
async def test_a_key_in_use_is_a_concurrent_request(stock: Stock) -> None:
    before = await stock.available()
    await stock.admin.control("POST", "admin-api/faults", kind="latency", seconds=0.3, next=1, operation="Adjust")
    first = asyncio.create_task(stock.adjust("one", 1))
    keys = stock.admin.simulator.admin.shop(DOMAIN).lanes["no-app"].keys
    for _ in range(1000):
        await asyncio.sleep(0)
        if keys.in_progress:
            break
    second = await stock.adjust("one", 1)

    assert codes(second) == ["IDEMPOTENCY_CONCURRENT_REQUEST"]
    assert codes(await first) == []
    assert await stock.adjust("one", 1) == await first
    assert await stock.available() == before + 1


@pytest.mark.conformance
async def test_a_key_whose_attempt_failed_is_spent(stock: Stock) -> None:
    before = await stock.available()
    await stock.admin.control("POST", "admin-api/faults", kind="error_during", next=1)
    broken = await stock.admin.call(ADJUST, {"input": stock.change(1), "key": "one"})
    again = await stock.adjust("one", 1)
    fresh = await stock.adjust("two", 1)

    assert broken.status_code == 503
    assert codes(again) == ["IDEMPOTENCY_PREVIOUS_ATTEMPT_FAILED"]
    assert codes(fresh) == []
    assert await stock.available() == before + 1


async def test_a_request_that_is_wrong_in_itself_spends_no_key(stock: Stock) -> None:
    wanted = stock.change(1)
    del wanted["changes"][0]["changeFromQuantity"]
    await stock.admin.error(ADJUST, input=wanted, key="one")

    assert codes(await stock.adjust("one", 1)) == []


@pytest.mark.conformance
@pytest.mark.parametrize(("hours", "effects"), [(23, 1), (24, 2)])
async def test_a_key_lives_for_a_day(stock: Stock, hours: int, effects: int) -> None:
    before = await stock.available()
    await stock.adjust("one", 1)
    await stock.admin.control("POST", "admin-api/idempotency-keys/age", seconds=hours * 3600)
    await stock.adjust("one", 1)

    assert await stock.available() == before + effects


@pytest.mark.conformance
async def test_an_answer_that_refused_is_given_again(stock: Stock) -> None:
    refused = await stock.adjust("one", 1, expected=-5)

    assert codes(refused) == ["CHANGE_FROM_QUANTITY_STALE"]
    assert await stock.adjust("one", 1, expected=-5) == refused


@pytest.mark.conformance
async def test_a_mutation_that_needs_a_key_is_refused_without_one(stock: Stock) -> None:
    bare = re.sub(r"@idempotent\(key: \$key\)", "", ADJUST).replace(", $key: String!", "")
    before = await stock.available()
    error = await stock.admin.error(bare, input=stock.change(1))

    assert error["message"] == "The @idempotent directive is required for this mutation but was not provided."
    assert error["extensions"]["code"] == "BAD_REQUEST"
    assert await stock.available() == before


@pytest.mark.conformance
@pytest.mark.parametrize("key", ["", "  "])
async def test_a_key_cannot_be_blank(stock: Stock, key: str) -> None:
    error = await stock.admin.error(ADJUST, input=stock.change(1), key=key)

    assert error["message"] == "The idempotency key cannot be an empty string or whitespace only."


NEED_KEYS = """inventoryActivate inventoryAdjustQuantities inventoryMoveQuantities inventorySetOnHandQuantities
  inventorySetQuantities inventoryShipmentAddItems inventoryShipmentCreate inventoryShipmentCreateInTransit
  inventoryShipmentReceive inventoryTransferCreate inventoryTransferCreateAsReadyToShip inventoryTransferDuplicate
  inventoryTransferSetItems locationActivate locationDeactivate refundCreate""".split()  # noqa: SIM905


@pytest.mark.conformance
def test_the_schemas_descriptions_say_which_mutations_need_a_key(admin_schema: AdminSchema) -> None:
    assert sorted(admin_schema.needs_key) == NEED_KEYS


def test_a_description_is_read_over_its_line_breaks() -> None:
    text = "> As of 2026-04, the idempotency key is required\nand must be provided using the `@idempotent` directive."

    assert demands_key(text)
    assert not demands_key(text.replace("required", "optional"))


@pytest.mark.conformance
async def test_a_key_is_one_apps_own(stock: Stock) -> None:
    admin = stock.admin
    await admin.api.put("/apps/another", json={"client_secret": "s" * 32, "app_url": "http://app.test/"})
    minted = await admin.api.post(f"/shops/{DOMAIN}/access-token", json={"client_id": "another", "scopes": []})
    before = await stock.available()
    await stock.adjust("one", 1)
    await Stock(Admin(admin.api, admin.simulator, minted.json()["access_token"]), stock.item, stock.location).adjust(
        "one", 1
    )

    assert await stock.available() == before + 2


def test_an_attempt_runs_until_it_ends() -> None:
    keys = Keys(lambda: 0.0)
    attempt = keys.claim("one", "a")
    assert isinstance(attempt, Attempt)
    assert keys.claim("one", "a") is Conflict.CONCURRENT
    attempt.fail()
    assert keys.claim("one", "a") is Conflict.FAILED
