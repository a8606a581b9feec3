"""Publishing to SNS, against moto's server on a loopback socket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from sellflow.errors import ConfigurationError
from sellflow.queue.outgoing.sns_target import _client
from tests.aws import acting_as_aws
from tests.queue.outgoing.conftest import EARNED, Outgoing

REGION = "eu-west-1"


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with acting_as_aws(monkeypatch) as url:
        _client.cache_clear()
        yield url
        _client.cache_clear()


class Topic:
    """An SNS topic, with a queue behind it to see what arrives."""

    def __init__(self, name: str) -> None:
        session = boto3.session.Session()
        self._sqs: Any = session.client("sqs", region_name=REGION)
        sns: Any = session.client("sns", region_name=REGION)
        self.arn: str = sns.create_topic(Name=name)["TopicArn"]
        self._queue = self._sqs.create_queue(QueueName=name)["QueueUrl"]
        queue = self._sqs.get_queue_attributes(QueueUrl=self._queue, AttributeNames=["QueueArn"])["Attributes"]
        sns.subscribe(TopicArn=self.arn, Protocol="sqs", Endpoint=queue["QueueArn"])

    def received(self) -> list[dict[str, Any]]:
        found = self._sqs.receive_message(QueueUrl=self._queue, MaxNumberOfMessages=10).get("Messages", [])
        return [json.loads(message["Body"]) for message in found]


async def test_an_event_is_published_with_its_topic_and_id(aws: str, outgoing: Outgoing) -> None:
    topic = Topic("points")
    _, secret = await outgoing.add(topic.arn)
    assert secret == ""
    await outgoing.emit("hello")
    await outgoing.deliver()
    assert await outgoing.states() == ["delivered"]
    (notification,) = topic.received()
    message = json.loads(notification["Message"])
    assert (message["type"], message["data"]) == (EARNED, {"word": "hello"})
    attributes = {name: each["Value"] for name, each in notification["MessageAttributes"].items()}
    assert attributes["topic"] == EARNED
    assert attributes["webhook-id"].startswith("msg_")


async def test_a_fifo_topic_gets_its_group_and_id(aws: str, outgoing: Outgoing) -> None:
    sns: Any = boto3.session.Session().client("sns", region_name=REGION)
    made = sns.create_topic(Name="points.fifo", Attributes={"FifoTopic": "true"})
    await outgoing.add(made["TopicArn"])
    await outgoing.emit("hello")
    await outgoing.deliver()
    assert await outgoing.states() == ["delivered"]


async def test_a_topic_that_does_not_exist_is_a_failure_to_be_tried_again(aws: str, outgoing: Outgoing) -> None:
    await outgoing.add(f"arn:aws:sns:{REGION}:123456789012:nowhere")
    await outgoing.emit("hello")
    await outgoing.deliver()
    assert await outgoing.states() == ["pending"]
    row = await outgoing.owner.fetchrow("SELECT status, error_code, excerpt FROM endpoint_attempts")
    assert row is not None
    assert (row["status"], row["error_code"]) == (404, "outgoing.refused")
    assert "does not exist" in row["excerpt"]


async def test_aws_out_of_reach_is_a_failure_to_be_tried_again(
    aws: str, outgoing: Outgoing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    await outgoing.add(f"arn:aws:sns:{REGION}:123456789012:points")
    await outgoing.emit("hello")
    await outgoing.deliver()
    assert await outgoing.owner.fetchval("SELECT error_code FROM endpoint_attempts") == "outgoing.unreachable"


async def test_a_message_larger_than_sns_takes_is_given_up_at_once(aws: str, outgoing: Outgoing) -> None:
    await outgoing.add(Topic("points").arn)
    await outgoing.emit("x" * 300_000)
    await outgoing.deliver()
    assert await outgoing.states() == ["failed"]
    assert await outgoing.owner.fetchval("SELECT error_code FROM dead_letters") == "outgoing.too_large"


async def test_a_shop_s_endpoint_is_no_sns_topic(outgoing: Outgoing) -> None:
    with pytest.raises(ConfigurationError, match="not for a shop"):
        await outgoing.add("arn:aws:sns:eu-west-1:123456789012:points", shop_id=outgoing.tenant.shop_id)
