"""From an event to a signed POST, through real consumers and a receiver on a socket."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks import WebhookVerificationError

from sellflow.queue.housekeeping.pruning import prune_log
from sellflow.queue.outgoing import delivery_log, endpoints
from sellflow.queue.outgoing.delivery_log import list_attempts, list_deliveries
from sellflow.queue.outgoing.models import DeliveryState, EndpointState
from sellflow.queue.outgoing.rules import ENDPOINT_PAUSED, RETRIES
from sellflow.shops.store import install_shop
from tests.conftest import Tenant
from tests.queue.outgoing.conftest import EARNED, Outgoing
from tests.queue.outgoing.receiver import Receiver, answer, receiving


async def test_an_event_arrives_signed_and_in_the_standard_form(outgoing: Outgoing, receiver: Receiver) -> None:
    _, secret = await outgoing.add(receiver.url)
    await outgoing.emit("hello")
    await outgoing.deliver()
    (request,) = receiver.requests
    message = request.verified(secret)
    assert (message["type"], message["shop"], message["data"]) == (EARNED, "acme.myshopify.com", {"word": "hello"})
    assert datetime.fromisoformat(message["timestamp"]).tzinfo is not None
    assert request.headers["content-type"] == "application/json"
    with pytest.raises(WebhookVerificationError):
        request.verified("whsec_" + "c" * 32)
    assert await outgoing.states() == ["delivered"]


async def test_a_dead_letter_is_told_to_whoever_subscribed(outgoing: Outgoing, receiver: Receiver) -> None:
    _, secret = await outgoing.add(receiver.url, "queue.dead_letter")
    await outgoing.emit("no uninstallation at all", topic="shopify.app.uninstalled")
    await outgoing.deliver("shops", "outgoing", "outgoing_deliveries")
    (request,) = receiver.requests
    letter = request.verified(secret)
    assert letter["type"] == "queue.dead_letter"
    assert letter["data"]["error_code"] == "payload.invalid"
    assert letter["data"]["topic"] == "shopify.app.uninstalled"
    found = await outgoing.owner.fetchval("SELECT dead_letter_id FROM dead_letters")
    assert letter["data"]["dead_letter_id"] == found


async def test_a_dead_endpoint_is_not_told_of_its_own_failures(outgoing: Outgoing, receiver: Receiver) -> None:
    receiver.answering = answer(500)
    await outgoing.add(receiver.url, "#")
    await outgoing.emit("hello")
    for _ in range(RETRIES.attempts):
        await outgoing.deliver()
        await outgoing.let_retries_come_due()
    await outgoing.deliver()
    assert len(receiver.requests) == RETRIES.attempts
    assert await outgoing.states() == ["failed"]
    letters = await outgoing.owner.fetch("SELECT queue, attempts, error_code, error_message FROM dead_letters")
    assert [tuple(row) for row in letters] == [
        ("outgoing_deliveries", RETRIES.attempts, "outgoing.refused", "the endpoint answered 500")
    ]


async def test_a_retry_keeps_its_webhook_id_and_is_signed_anew(outgoing: Outgoing, receiver: Receiver) -> None:
    receiver.answering = answer(503, b"not now")
    endpoint, secret = await outgoing.add(receiver.url)
    await outgoing.emit("hello")
    await outgoing.deliver()
    assert await outgoing.states() == ["pending"]
    receiver.answering = answer(204)
    await outgoing.let_retries_come_due()
    await outgoing.deliver()
    first, second = receiver.requests
    assert first.webhook_id == second.webhook_id
    assert first.body == second.body
    assert second.verified(secret)
    (delivery,) = await list_deliveries(outgoing.owner, endpoint.endpoint_id)
    assert (delivery.state, delivery.attempts, delivery.last_status) == (DeliveryState.DELIVERED, 2, 204)
    attempts = await list_attempts(outgoing.owner, endpoint.endpoint_id, delivery.delivery_id)
    assert [(each.status, each.error_code, each.excerpt) for each in attempts] == [
        (503, "outgoing.refused", "not now"),
        (204, None, ""),
    ]


async def test_retry_after_is_waited_for(outgoing: Outgoing, receiver: Receiver) -> None:
    receiver.answering = answer(429, retry_after="900")
    await outgoing.add(receiver.url)
    await outgoing.emit("hello")
    await outgoing.deliver()
    waits = await outgoing.owner.fetchval("SELECT due_at - parked_at FROM parked_messages")
    assert waits > timedelta(seconds=899)


async def test_failures_hold_up_no_other_delivery(outgoing: Outgoing, receiver: Receiver) -> None:
    async with receiving() as other:
        receiver.answering = answer(500)
        await outgoing.add(receiver.url)
        await outgoing.add(other.url)
        await outgoing.emit("one")
        await outgoing.deliver()
        receiver.answering = answer(200)
        await outgoing.emit("two")
        await outgoing.deliver()
        assert [request.data["word"] for request in other.requests] == ["one", "two"]
        assert [request.data["word"] for request in receiver.requests] == ["one", "two"]
        assert await outgoing.states() == ["pending", "delivered", "delivered", "delivered"]


async def test_fanning_out_twice_delivers_once(outgoing: Outgoing, receiver: Receiver) -> None:
    await outgoing.add(receiver.url)
    await outgoing.emit("hello")
    message = await outgoing.owner.fetchval("SELECT message FROM pgmq.q_outgoing")
    await outgoing.deliver()
    await outgoing.owner.execute("SELECT pgmq.send('outgoing', $1::jsonb)", message)
    await outgoing.deliver()
    assert len(receiver.requests) == 1


async def test_a_shop_s_endpoint_hears_its_shop_alone_and_a_service_hears_all(
    outgoing: Outgoing, receiver: Receiver, other_tenant: Tenant
) -> None:
    async with receiving() as others, receiving() as service:
        await outgoing.add(receiver.url, "#", shop_id=outgoing.tenant.shop_id)
        await outgoing.add(others.url, "#", shop_id=other_tenant.shop_id)
        await outgoing.add(service.url, EARNED)
        await outgoing.emit("ours")
        await outgoing.emit("theirs", shop_id=other_tenant.shop_id)
        await outgoing.deliver()
        assert [request.data["word"] for request in receiver.requests] == ["ours"]
        assert [request.data["word"] for request in others.requests] == ["theirs"]
        assert sorted(request.data["word"] for request in service.requests) == ["ours", "theirs"]


async def test_both_secrets_sign_while_a_rotation_overlaps(outgoing: Outgoing, receiver: Receiver) -> None:
    endpoint, old = await outgoing.add(receiver.url)
    new = await endpoints.rotate_secret(
        outgoing.owner, outgoing.vault, endpoint.endpoint_id, overlap=timedelta(hours=1)
    )
    await outgoing.emit("both")
    await outgoing.deliver()
    assert receiver.requests[0].verified(old) == receiver.requests[0].verified(new)
    await outgoing.owner.execute(
        "UPDATE endpoint_secrets SET valid_until = clock_timestamp() WHERE valid_until IS NOT NULL"
    )
    await outgoing.emit("new alone")
    await outgoing.deliver()
    assert receiver.requests[1].verified(new)
    with pytest.raises(WebhookVerificationError):
        receiver.requests[1].verified(old)


async def test_a_rotation_without_overlap_revokes_at_once(outgoing: Outgoing, receiver: Receiver) -> None:
    endpoint, old = await outgoing.add(receiver.url)
    new = await endpoints.rotate_secret(outgoing.owner, outgoing.vault, endpoint.endpoint_id, overlap=timedelta(0))
    await outgoing.emit("hello")
    await outgoing.deliver()
    assert receiver.requests[0].verified(new)
    with pytest.raises(WebhookVerificationError):
        receiver.requests[0].verified(old)


async def test_what_a_paused_endpoint_misses_is_sent_when_it_is_resumed(outgoing: Outgoing, receiver: Receiver) -> None:
    endpoint, _ = await outgoing.add(receiver.url)
    receiver.answering = answer(500)
    await outgoing.emit("failing")
    await outgoing.deliver()
    await outgoing.emit("on its way")
    await outgoing.deliver("outgoing")
    await endpoints.pause_endpoint(outgoing.owner, endpoint.endpoint_id, reason="maintenance")
    await outgoing.emit("after")
    await outgoing.let_retries_come_due()
    await outgoing.deliver()
    assert await outgoing.states() == ["held", "held", "held"]
    assert len(receiver.requests) == 1
    receiver.answering = answer(200)
    assert await endpoints.resume_endpoint(outgoing.owner, outgoing.registry, endpoint.endpoint_id) == 3
    await outgoing.deliver()
    assert sorted(request.data["word"] for request in receiver.requests[1:]) == ["after", "failing", "on its way"]
    assert await outgoing.states() == ["delivered", "delivered", "delivered"]
    assert await endpoints.resume_endpoint(outgoing.owner, outgoing.registry, endpoint.endpoint_id) == 0


async def test_sustained_failure_pauses_an_endpoint_with_a_notice_and_loses_nothing(
    outgoing: Outgoing, receiver: Receiver
) -> None:
    async with receiving() as watching:
        receiver.answering = answer(500)
        endpoint, _ = await outgoing.add(receiver.url)
        _, secret = await outgoing.add(watching.url, ENDPOINT_PAUSED)
        await outgoing.failing_since(endpoint, datetime.now(UTC) - timedelta(hours=13), 8)
        await outgoing.emit("ninth")
        await outgoing.deliver()
        assert (await outgoing.endpoint(endpoint)).state == EndpointState.ACTIVE
        await outgoing.emit("tenth")
        await outgoing.deliver()
        paused = await outgoing.endpoint(endpoint)
        assert paused.state == EndpointState.PAUSED
        assert "10 failures in a row" in str(paused.pause_reason)
        (notice,) = watching.requests
        assert notice.verified(secret)["data"]["endpoint_id"] == endpoint.endpoint_id
        await outgoing.let_retries_come_due()
        await outgoing.deliver()
        receiver.answering = answer(200)
        assert await endpoints.resume_endpoint(outgoing.owner, outgoing.registry, endpoint.endpoint_id) == 2
        await outgoing.deliver()
        assert sorted(request.data["word"] for request in receiver.requests[2:]) == ["ninth", "tenth"]


async def test_a_success_ends_a_row_of_failures(outgoing: Outgoing, receiver: Receiver) -> None:
    endpoint, _ = await outgoing.add(receiver.url)
    await outgoing.failing_since(endpoint, datetime.now(UTC) - timedelta(hours=13), 9)
    await outgoing.emit("hello")
    await outgoing.deliver()
    healthy = await outgoing.endpoint(endpoint)
    assert (healthy.state, healthy.failures, healthy.failing_since) == (EndpointState.ACTIVE, 0, None)


async def test_an_endpoint_that_is_gone_is_paused_at_once_and_its_delivery_kept(
    outgoing: Outgoing, receiver: Receiver
) -> None:
    receiver.answering = answer(410)
    endpoint, _ = await outgoing.add(receiver.url)
    await outgoing.emit("hello")
    await outgoing.deliver()
    assert (await outgoing.endpoint(endpoint)).pause_reason == "it answered 410 Gone"
    assert await outgoing.states() == ["held"]


async def test_a_merchant_is_not_told_of_a_service_s_endpoint(outgoing: Outgoing, receiver: Receiver) -> None:
    async with receiving() as merchant, receiving() as service:
        receiver.answering = answer(410)
        await outgoing.add(receiver.url)
        await outgoing.add(merchant.url, "#", shop_id=outgoing.tenant.shop_id)
        await outgoing.add(service.url, "queue.*")
        await outgoing.emit("hello")
        await outgoing.deliver()
        assert [request.data for request in merchant.requests] == [{"word": "hello"}]
        (notice,) = (request.data for request in service.requests)
        assert (notice["reason"], notice["address"]) == ("it answered 410 Gone", None)


async def test_a_merchant_s_own_paused_endpoint_is_told_to_its_others(outgoing: Outgoing, receiver: Receiver) -> None:
    async with receiving() as other:
        receiver.answering = answer(410)
        endpoint, _ = await outgoing.add(receiver.url, shop_id=outgoing.tenant.shop_id)
        await outgoing.add(other.url, ENDPOINT_PAUSED, shop_id=outgoing.tenant.shop_id)
        await outgoing.emit("hello")
        await outgoing.deliver()
        assert [request.data["endpoint_id"] for request in other.requests] == [endpoint.endpoint_id]


async def test_a_replay_of_one_sends_it_again_under_its_id_and_asking_twice_sends_once(
    outgoing: Outgoing, receiver: Receiver
) -> None:
    endpoint, secret = await outgoing.add(receiver.url)
    await outgoing.emit("hello")
    await outgoing.deliver()
    (delivery,) = await list_deliveries(outgoing.owner, endpoint.endpoint_id)

    async def replay() -> int:
        return await endpoints.replay_deliveries(
            outgoing.owner, outgoing.registry, endpoint.endpoint_id, delivery_id=delivery.delivery_id
        )

    assert [await replay(), await replay()] == [1, 0]
    await outgoing.deliver()
    first, second = receiver.requests
    assert first.webhook_id == second.webhook_id
    assert second.verified(secret)


async def test_a_replay_of_failures_sends_those_since_a_time_and_settles_their_dead_letters(
    outgoing: Outgoing, receiver: Receiver
) -> None:
    receiver.answering = answer(500)
    endpoint, _ = await outgoing.add(receiver.url)
    await outgoing.emit("old", "new")
    await outgoing.deliver()
    await outgoing.owner.execute("UPDATE endpoint_deliveries SET round = $1", RETRIES.attempts - 1)
    await outgoing.owner.execute(
        "UPDATE parked_messages SET headers = jsonb_set(headers, '{failures}', $1::text::jsonb)",
        str(RETRIES.attempts - 1),
    )
    await outgoing.let_retries_come_due()
    await outgoing.deliver()
    assert await outgoing.states() == ["failed", "failed"]
    await outgoing.owner.execute(
        "UPDATE endpoint_deliveries SET created_at = created_at - interval '2 days' WHERE delivery_id = 1"
    )
    receiver.answering = answer(200)
    since = datetime.now(UTC) - timedelta(days=1)
    counts = [
        await endpoints.replay_deliveries(outgoing.owner, outgoing.registry, endpoint.endpoint_id, since=since)
        for _ in range(2)
    ]
    assert counts == [1, 0]
    await outgoing.deliver()
    assert await outgoing.states() == ["failed", "delivered"]
    letters = await outgoing.owner.fetch("SELECT state FROM dead_letters ORDER BY key")
    assert [row["state"] for row in letters] == ["waiting", "replayed"]


async def test_a_delivery_that_killed_its_worker_can_be_replayed(outgoing: Outgoing, receiver: Receiver) -> None:
    endpoint, _ = await outgoing.add(receiver.url)
    await outgoing.emit("hello")
    await outgoing.deliver("outgoing")
    await outgoing.owner.execute("UPDATE pgmq.q_outgoing_deliveries SET read_ct = 100")
    await outgoing.deliver()
    assert await outgoing.owner.fetchval("SELECT error_code FROM dead_letters") == "queue.worker_died"

    async def replay() -> int:
        return await endpoints.replay_deliveries(outgoing.owner, outgoing.registry, endpoint.endpoint_id)

    assert [await replay(), await replay()] == [1, 0]
    await outgoing.deliver()
    assert await outgoing.states() == ["delivered"]


async def test_a_removed_endpoint_gets_nothing_more_and_its_secrets_are_gone(
    outgoing: Outgoing, receiver: Receiver
) -> None:
    endpoint, _ = await outgoing.add(receiver.url)
    await outgoing.emit("on its way")
    await outgoing.deliver("outgoing")
    await endpoints.remove_endpoint(outgoing.owner, endpoint.endpoint_id)
    await outgoing.emit("later")
    await outgoing.deliver()
    assert receiver.requests == []
    assert await outgoing.states() == ["failed"]
    assert await outgoing.owner.fetchval("SELECT count(*) FROM endpoint_secrets") == 0
    assert await outgoing.owner.fetchval("SELECT count(*) FROM dead_letters") == 0
    await outgoing.add(receiver.url)  # the same address may come back


async def test_without_an_endpoint_no_message_is_queued_for_any(outgoing: Outgoing, receiver: Receiver) -> None:
    await outgoing.emit("unheard")
    assert await outgoing.owner.fetchval("SELECT count(*) FROM pgmq.q_outgoing") == 0
    await outgoing.add(receiver.url, "loyalty.#")
    await outgoing.emit("heard")
    assert await outgoing.owner.fetchval("SELECT count(*) FROM pgmq.q_outgoing") == 1


async def test_a_test_arrives_although_the_endpoint_is_paused_and_is_tried_once(
    outgoing: Outgoing, receiver: Receiver
) -> None:
    receiver.answering = answer(500, b"boom")
    endpoint, secret = await outgoing.add(receiver.url)
    await outgoing.add(receiver.url + "/other", "#")
    await endpoints.pause_endpoint(outgoing.owner, endpoint.endpoint_id, reason="maintenance")
    shop_id, key = await endpoints.send_test(outgoing.owner, outgoing.registry, endpoint.endpoint_id)
    await outgoing.deliver()
    (request,) = receiver.requests
    assert request.verified(secret)["type"] == "queue.endpoint_test"
    assert await outgoing.states() == ["failed"]
    assert (await outgoing.endpoint(endpoint)).failures == 0
    assert await outgoing.owner.fetchval("SELECT count(*) FROM parked_messages") == 0
    result = await delivery_log.test_result(outgoing.owner, endpoint.endpoint_id, shop_id=shop_id, key=key)
    assert result is not None
    assert (result.status, result.excerpt) == (500, "boom")


async def test_a_delivery_whose_event_is_forgotten_is_given_up(outgoing: Outgoing, receiver: Receiver) -> None:
    await outgoing.add(receiver.url)
    await outgoing.emit("hello")
    await outgoing.deliver("outgoing")
    await outgoing.owner.execute("DELETE FROM events WHERE topic = $1", EARNED)
    await outgoing.deliver()
    assert receiver.requests == []
    assert await outgoing.states() == ["failed"]
    assert await outgoing.owner.fetchval("SELECT error_code FROM dead_letters") == "outgoing.event_forgotten"


async def test_deliveries_of_old_days_are_pruned_with_their_attempts(outgoing: Outgoing, receiver: Receiver) -> None:
    await outgoing.add(receiver.url)
    await outgoing.emit("old", "new")
    await outgoing.deliver()
    await outgoing.owner.execute("UPDATE endpoint_deliveries SET day = day - 10 WHERE delivery_id = 1")
    told = await prune_log(retention_days=5).run(outgoing.owner)
    assert "1 endpoint_deliveries" in str(told)
    assert await outgoing.owner.fetchval("SELECT count(*) FROM endpoint_attempts") == 1


async def test_an_event_of_a_shop_that_comes_later_reaches_a_service(outgoing: Outgoing, receiver: Receiver) -> None:
    await outgoing.add(receiver.url)
    new = await install_shop(
        outgoing.owner, app_id=outgoing.tenant.app.app_id, domain="new.myshopify.com", currency="EUR"
    )
    await outgoing.emit("hello", shop_id=new.shop_id)
    await outgoing.deliver()
    assert len(receiver.requests) == 1
