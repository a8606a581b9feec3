"""Changes are stored before they are sent, and no key is sent again but where its outcome is in doubt."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import count
from typing import Any

import pytest

from sellflow.errors import NotFoundError
from sellflow.postgres.database import Database, Login, Pool, SessionConnection
from sellflow.postgres.transactions import of_web, of_worker
from sellflow.secrets import Vault, build_vault
from sellflow.settings import Settings, load_settings
from sellflow.shopify.admin import stored_store
from sellflow.shopify.admin.client import AdminClient
from sellflow.shopify.admin.errors import AdminError, UnauthorizedError
from sellflow.shopify.admin.stored_calls import (
    CallFailedError,
    KeyMismatchError,
    OutcomeUnknownError,
    StillOpenError,
    StoredCalls,
    Wish,
)
from sellflow.shopify.documents.installation import SHOP
from sellflow.shopify.documents.inventory import INVENTORY_ADJUST, InventoryAdjusted
from sellflow.shopify.documents.rewards import DISCOUNT_CODE_CREATE, DiscountCodeCreated
from tests.conftest import Tenant
from tests.queue.mortality import Fate, mortal_pool
from tests.shopify.admin.conftest import FixedTokens
from tests.shopify.admin.shopify_server import Shopify, Step, answers, drops, error, says, stalls

PLANTED = "planted-in-a-variable"
ADJUSTED = {
    "inventoryAdjustQuantities": {
        "inventoryAdjustmentGroup": {
            "id": "gid://shopify/InventoryAdjustmentGroup/1",
            "createdAt": "2026-10-01T12:00:00Z",
            "changes": [],
        },
        "userErrors": [],
    }
}
CREATED = {
    "discountCodeBasicCreate": {"codeDiscountNode": {"id": "gid://shopify/DiscountCodeNode/5"}, "userErrors": []}
}
ADJUST = Wish(INVENTORY_ADJUST, {"input": {"reason": PLANTED}}, "adjustment:1", subject="customer:42")
CREATE = Wish(DISCOUNT_CODE_CREATE, {"discount": {"code": PLANTED}}, "redemption:7:code", subject="customer:42")


def refused(field: str, *codes: str | None, message: str = "no") -> dict[str, Any]:
    """An answer with user errors."""
    return {field: {"userErrors": [{"code": code, "field": ["input"], "message": message} for code in codes]}}


@pytest.fixture
def vault(settings: Settings) -> Vault:
    return build_vault(settings)


@pytest.fixture
def calls(client: AdminClient, vault: Vault) -> StoredCalls:
    return StoredCalls(client, vault)


@pytest.fixture
def adjusting(shopify: Shopify) -> Shopify:
    shopify.data = ADJUSTED
    return shopify


async def row(owner: SessionConnection) -> dict[str, Any]:
    found = await owner.fetchrow("SELECT * FROM admin_calls")
    assert found is not None
    return dict(found)


def keys(shopify: Shopify) -> list[str]:
    return [each.variables["idempotencyKey"] for each in shopify.asked]


async def test_a_change_is_stored_with_its_key_before_it_is_sent(
    calls: StoredCalls, adjusting: Shopify, tenant: Tenant, owner: SessionConnection
) -> None:
    seen: list[dict[str, Any]] = []

    async def look(shopify: Shopify, asked: Any, writer: asyncio.StreamWriter) -> None:  # noqa: ANN401
        seen.append(await row(owner))
        await answers(ADJUSTED)(shopify, asked, writer)

    adjusting.script.append(look)
    found = await calls.call(tenant.shop_id, ADJUST)
    assert isinstance(found, InventoryAdjusted)
    assert (seen[0]["state"], str(seen[0]["key"]), seen[0]["query"]) == (
        "sent",
        keys(adjusting)[0],
        INVENTORY_ADJUST.text,
    )
    assert (await row(owner))["state"] == "succeeded"


async def test_a_change_is_made_once_however_often_it_is_asked_for(
    calls: StoredCalls, adjusting: Shopify, tenant: Tenant
) -> None:
    first = await calls.call(tenant.shop_id, ADJUST)
    assert await calls.call(tenant.shop_id, ADJUST) == first
    assert await calls.perform(tenant.shop_id, INVENTORY_ADJUST, ADJUST.purpose) == first
    assert len(adjusting.asked) == 1


async def test_what_is_stored_shows_no_variable_and_no_answer(
    calls: StoredCalls, adjusting: Shopify, tenant: Tenant, owner: SessionConnection
) -> None:
    async with calls._client.transactions(tenant.shop_id) as connection:
        await calls.store(connection, tenant.shop_id, ADJUST)
    assert PLANTED not in repr(await row(owner))
    await calls.perform(tenant.shop_id, INVENTORY_ADJUST, ADJUST.purpose)
    done = await row(owner)
    assert done["variables"] is None
    assert "InventoryAdjustmentGroup" not in repr(done)


async def test_of_many_who_ask_at_once_one_sends(calls: StoredCalls, adjusting: Shopify, tenant: Tenant) -> None:
    adjusting.latency = 0.2
    async with calls._client.transactions(tenant.shop_id) as connection:
        await calls.store(connection, tenant.shop_id, ADJUST)
    found = await asyncio.gather(
        *(calls.perform(tenant.shop_id, INVENTORY_ADJUST, ADJUST.purpose) for _ in range(6)), return_exceptions=True
    )
    assert len(adjusting.asked) == 1
    assert all(isinstance(each, InventoryAdjusted | StillOpenError) for each in found)


@pytest.mark.parametrize(
    "step",
    [drops, stalls, says(502), says(200, "<html>"), answers(None, error("INTERNAL_SERVER_ERROR"))],
    ids=["dropped", "timeout", "5xx", "html", "inside"],
)
async def test_a_key_is_sent_again_while_its_outcome_is_in_doubt(
    calls: StoredCalls, adjusting: Shopify, tenant: Tenant, owner: SessionConnection, step: Step
) -> None:
    adjusting.script.append(step)
    await calls.call(tenant.shop_id, ADJUST)
    first, second = keys(adjusting)
    assert first == second
    assert adjusting.asked[0].variables == adjusting.asked[1].variables
    assert (await row(owner))["keys_used"] == 1


@pytest.mark.conformance
async def test_a_concurrent_request_keeps_its_key(calls: StoredCalls, adjusting: Shopify, tenant: Tenant) -> None:
    adjusting.script.append(answers(refused("inventoryAdjustQuantities", "IDEMPOTENCY_CONCURRENT_REQUEST")))
    await calls.call(tenant.shop_id, ADJUST)
    assert len(set(keys(adjusting))) == 1
    assert len(adjusting.asked) == 2


@pytest.mark.conformance
@pytest.mark.parametrize(
    "answer",
    [
        answers(refused("inventoryAdjustQuantities", "IDEMPOTENCY_PREVIOUS_ATTEMPT_FAILED")),
        answers(
            refused(
                "inventoryAdjustQuantities",
                None,
                message="A previous request with this idempotency key failed. Retry with a new idempotency key.",
            )
        ),
        answers(None, error("IDEMPOTENCY_PREVIOUS_ATTEMPT_FAILED")),
    ],
    ids=["by code", "by message", "on top"],
)
async def test_a_key_that_shopify_has_spoilt_is_replaced_by_another_that_is_stored_first(
    calls: StoredCalls, adjusting: Shopify, tenant: Tenant, owner: SessionConnection, answer: Step
) -> None:
    seen: list[str] = []

    async def look(shopify: Shopify, asked: Any, writer: asyncio.StreamWriter) -> None:  # noqa: ANN401
        seen.append(str((await row(owner))["key"]))
        await answers(ADJUSTED)(shopify, asked, writer)

    adjusting.script.extend([answer, look])
    await calls.call(tenant.shop_id, ADJUST)
    first, second = keys(adjusting)
    assert first != second
    assert seen == [second]
    assert (await row(owner))["keys_used"] == 2


@pytest.mark.conformance
async def test_a_key_that_shopify_knows_from_another_call_is_a_fault_of_ours(
    calls: StoredCalls, adjusting: Shopify, tenant: Tenant
) -> None:
    adjusting.script.append(answers(refused("inventoryAdjustQuantities", "IDEMPOTENCY_KEY_PARAMETER_MISMATCH")))
    for _ in range(2):
        with pytest.raises(KeyMismatchError):
            await calls.call(tenant.shop_id, ADJUST)
    assert len(adjusting.asked) == 1


async def test_a_refusal_is_remembered_and_another_try_has_another_key(
    calls: StoredCalls, adjusting: Shopify, tenant: Tenant, owner: SessionConnection
) -> None:
    adjusting.script.append(answers(refused("inventoryAdjustQuantities", "INVALID_LOCATION", message="not here")))
    for _ in range(2):
        with pytest.raises(CallFailedError, match="not here") as raised:
            await calls.call(tenant.shop_id, ADJUST)
        assert raised.value.codes == {"INVALID_LOCATION"}
    assert (await row(owner))["error_code"] == "INVALID_LOCATION"
    async with calls._client.transactions(tenant.shop_id) as connection:
        assert await calls.store_anew(connection, tenant.shop_id, ADJUST)
        assert not await calls.store_anew(connection, tenant.shop_id, ADJUST)
    await calls.perform(tenant.shop_id, INVENTORY_ADJUST, ADJUST.purpose)
    first, second = keys(adjusting)
    assert first != second


@pytest.mark.parametrize(
    "step",
    [answers(None, error("THROTTLED"), cost=0), says(429, "", retry_after="0"), says(401)],
    ids=("throttled", "429", "401"),
)
async def test_what_is_turned_away_at_the_door_has_not_used_its_key(
    calls: StoredCalls, adjusting: Shopify, tenant: Tenant, owner: SessionConnection, step: Step
) -> None:
    adjusting.script.append(step)
    await calls.call(tenant.shop_id, ADJUST)
    assert len(adjusting.asked) == 2
    done = await row(owner)
    assert (done["keys_used"], done["is_doubtful"]) == (1, False)


async def test_a_shop_without_a_good_token_leaves_a_change_stored(
    calls: StoredCalls, adjusting: Shopify, tenant: Tenant, owner: SessionConnection
) -> None:
    adjusting.script.extend([says(401), says(401)])
    with pytest.raises(UnauthorizedError):
        await calls.call(tenant.shop_id, ADJUST)
    assert (await row(owner))["state"] == "stored"
    await calls.call(tenant.shop_id, ADJUST)


async def test_shopify_may_stay_silent_for_long_and_the_change_stays_open(
    calls: StoredCalls, adjusting: Shopify, tenant: Tenant, owner: SessionConnection
) -> None:
    adjusting.script.extend([says(500)] * 3)
    with pytest.raises(StillOpenError):
        await calls.call(tenant.shop_id, ADJUST)
    assert (await row(owner))["state"] == "ambiguous"
    await calls.call(tenant.shop_id, ADJUST)
    assert len(set(keys(adjusting))) == 1


async def test_a_key_that_shopify_may_have_forgotten_is_never_sent_again(
    calls: StoredCalls, adjusting: Shopify, tenant: Tenant, owner: SessionConnection
) -> None:
    adjusting.script.extend([says(500)] * 3)
    with pytest.raises(StillOpenError):
        await calls.call(tenant.shop_id, ADJUST)
    await owner.execute("UPDATE admin_calls SET first_sent_at = first_sent_at - interval '23 hours 1 second'")
    with pytest.raises(OutcomeUnknownError, match="look it up"):
        await calls.call(tenant.shop_id, ADJUST)
    assert len(adjusting.asked) == 3
    assert (await row(owner))["state"] == "unknown"


async def test_what_has_no_key_is_not_sent_twice_and_is_settled_by_a_look(
    calls: StoredCalls, shopify: Shopify, tenant: Tenant, owner: SessionConnection
) -> None:
    shopify.script.append(drops)
    for _ in range(2):
        with pytest.raises(OutcomeUnknownError):
            await calls.call(tenant.shop_id, CREATE)
    assert len(shopify.asked) == 1
    assert "idempotencyKey" not in shopify.asked[0].variables
    found = DiscountCodeCreated.model_validate(CREATED)
    async with calls._client.transactions(tenant.shop_id) as connection:
        assert await calls.settle(connection, tenant.shop_id, CREATE, result=found)
    assert await calls.call(tenant.shop_id, CREATE) == found


async def test_what_was_not_done_after_all_is_stored_anew(calls: StoredCalls, shopify: Shopify, tenant: Tenant) -> None:
    shopify.script.append(drops)
    with pytest.raises(OutcomeUnknownError):
        await calls.call(tenant.shop_id, CREATE)
    async with calls._client.transactions(tenant.shop_id) as connection:
        assert await calls.settle(connection, tenant.shop_id, CREATE, result=None)
        assert await calls.store_anew(connection, tenant.shop_id, CREATE)
    shopify.data = CREATED
    assert (await calls.call(tenant.shop_id, CREATE)).discount_code_basic_create is not None


async def test_a_sender_that_died_is_succeeded_by_another_with_the_same_key(
    calls: StoredCalls, adjusting: Shopify, tenant: Tenant, owner: SessionConnection
) -> None:
    adjusting.script.append(stalls)
    task = asyncio.create_task(calls.call(tenant.shop_id, ADJUST))
    await adjusting.wait_for(1)
    task.cancel()
    await asyncio.wait([task])
    with pytest.raises(StillOpenError):
        await calls.call(tenant.shop_id, ADJUST)
    await owner.execute("UPDATE admin_calls SET held_until = clock_timestamp()")
    await calls.call(tenant.shop_id, ADJUST)
    first, second = keys(adjusting)
    assert first == second


async def test_a_sender_of_something_without_a_key_that_died_has_no_successor(
    calls: StoredCalls, shopify: Shopify, tenant: Tenant, owner: SessionConnection
) -> None:
    shopify.script.append(stalls)
    task = asyncio.create_task(calls.call(tenant.shop_id, CREATE))
    await shopify.wait_for(1)
    task.cancel()
    await asyncio.wait([task])
    await owner.execute("UPDATE admin_calls SET held_until = clock_timestamp()")
    with pytest.raises(OutcomeUnknownError):
        await calls.call(tenant.shop_id, CREATE)
    assert len(shopify.asked) == 1


async def test_wherever_the_database_is_lost_no_change_gets_a_second_key(
    database: Database, owner: SessionConnection, adjusting: Shopify, vault: Vault, tenant: Tenant
) -> None:
    """Dies around every statement in turn; another process then finishes."""
    for number in count(1):
        wish = Wish(INVENTORY_ADJUST, {"input": {}}, f"adjustment:{number}")
        asked = len(adjusting.asked)
        fate = Fate(number, "after" if number % 2 else "before")
        async with mortal_pool(database, fate) as pool:
            died = await asyncio.gather(_call(pool, adjusting, vault, tenant, wish), return_exceptions=True)
        await owner.execute("UPDATE admin_calls SET held_until = clock_timestamp() WHERE state = 'sent'")
        async with await database.pool(Login.WORKER, purpose="test", size=2) as pool:
            await _call(pool, adjusting, vault, tenant, wish)
        sent = [each.variables["idempotencyKey"] for each in adjusting.asked[asked:]]
        assert len(set(sent)) == 1
        if not fate.is_dead:
            assert number > 10
            assert isinstance(died[0], InventoryAdjusted)
            return


async def _call(pool: Pool, shopify: Shopify, vault: Vault, tenant: Tenant, wish: Wish[Any]) -> object:
    """Make a change from a process of its own."""
    settings = load_settings(environment="test", shopify_timeout=2.0)
    client = AdminClient(transactions=of_worker(pool), tokens=FixedTokens(shopify.url), settings=settings)
    try:
        return await StoredCalls(client, vault).call(tenant.shop_id, wish)
    finally:
        await client.close()


async def test_web_makes_changes_too(
    web_pool: Pool, quick: Settings, adjusting: Shopify, vault: Vault, tenant: Tenant
) -> None:
    client = AdminClient(transactions=of_web(web_pool), tokens=FixedTokens(adjusting.url), settings=quick)
    await StoredCalls(client, vault).call(tenant.shop_id, ADJUST)
    await client.close()


async def test_another_shop_has_no_part_in_it(
    calls: StoredCalls, adjusting: Shopify, tenant: Tenant, other_tenant: Tenant
) -> None:
    await calls.call(tenant.shop_id, ADJUST)
    with pytest.raises(NotFoundError):
        await calls.perform(other_tenant.shop_id, INVENTORY_ADJUST, ADJUST.purpose)
    await calls.call(other_tenant.shop_id, ADJUST)
    assert len(set(keys(adjusting))) == 2


async def test_a_query_is_not_stored(calls: StoredCalls, tenant: Tenant) -> None:
    with pytest.raises(TypeError, match="fetch it"):
        await calls.call(tenant.shop_id, Wish(SHOP, {}, "shop"))


async def test_who_wants_to_be_forgotten_leaves_nothing_and_nothing_is_done_twice(
    calls: StoredCalls, adjusting: Shopify, tenant: Tenant, owner: SessionConnection
) -> None:
    await calls.call(tenant.shop_id, ADJUST)
    adjusting.script.append(drops)
    with pytest.raises(OutcomeUnknownError):
        await calls.call(tenant.shop_id, CREATE)
    assert await stored_store.forget_subjects(owner, tenant.shop_id, ["customer:42"]) == 2
    rows = await owner.fetch("SELECT subject, variables, answer FROM admin_calls")
    assert [tuple(each) for each in rows] == [(None, None, None)] * 2
    with pytest.raises(NotFoundError, match="erased"):
        await calls.call(tenant.shop_id, ADJUST)
    assert len(adjusting.asked) == 2


async def test_an_answer_that_comes_after_somebody_was_forgotten_is_not_kept(
    calls: StoredCalls, adjusting: Shopify, tenant: Tenant, owner: SessionConnection
) -> None:
    adjusting.latency = 0.5
    task = asyncio.create_task(calls.call(tenant.shop_id, ADJUST))
    await adjusting.wait_for(1)
    assert await stored_store.forget_subjects(owner, tenant.shop_id, ["customer:42"]) == 1
    with pytest.raises(OutcomeUnknownError):
        await task
    done = await row(owner)
    assert (done["state"], done["answer"], done["variables"]) == ("unknown", None, None)


async def test_old_calls_are_given_up_and_deleted(
    calls: StoredCalls, adjusting: Shopify, tenant: Tenant, owner: SessionConnection
) -> None:
    await calls.call(tenant.shop_id, ADJUST)
    adjusting.script.extend([says(500)] * 3)
    with pytest.raises(StillOpenError):
        await calls.call(tenant.shop_id, Wish(INVENTORY_ADJUST, {}, "adjustment:2"))
    assert await stored_store.give_up_old_calls(owner) == 0
    await owner.execute("UPDATE admin_calls SET first_sent_at = first_sent_at - interval '2 days'")
    assert await stored_store.give_up_old_calls(owner) == 1
    assert await stored_store.delete_old_calls(owner, days=30) == 0
    await owner.execute("UPDATE admin_calls SET finished_at = finished_at - interval '31 days'")
    assert await stored_store.delete_old_calls(owner, days=30) == 2


async def test_calls_are_listed_newest_first(
    calls: StoredCalls, adjusting: Shopify, tenant: Tenant, owner: SessionConnection
) -> None:
    purposes: Sequence[str] = [f"adjustment:{number}" for number in range(3)]
    for purpose in purposes:
        await calls.call(tenant.shop_id, Wish(INVENTORY_ADJUST, {}, purpose))
    found = await stored_store.list_calls(owner, shop_id=tenant.shop_id, state="succeeded")
    assert [each.purpose for each in found] == list(reversed(purposes))
    assert await stored_store.list_calls(owner, state="unknown") == []


def test_an_admin_error_is_shown_without_variables() -> None:
    assert PLANTED not in repr(ADJUST)
    assert issubclass(UnauthorizedError, AdminError)
