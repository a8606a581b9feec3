"""Publishes to Amazon SNS through boto3, which finds the installation's own credentials by itself."""

from __future__ import annotations

import asyncio
from functools import cache
from typing import Any

from sellflow.errors import PermanentError
from sellflow.queue.outgoing.addresses import region_of
from sellflow.queue.outgoing.http_target import UnreachableError
from sellflow.queue.outgoing.models import Answer

#: What SNS takes at most, attributes included (docs.aws.amazon.com/sns/latest/dg/sns-message-attributes.html).
LARGEST_MESSAGE = 262_144


class MessageTooLargeError(PermanentError):
    """SNS does not take messages of this size."""

    code = "outgoing.too_large"


async def publish(
    arn: str,
    body: bytes,
    *,
    message_id: str,
    topic: str,
    timeout: float,  # noqa: ASYNC109 - botocore's, which is the only one that ends its thread
) -> Answer:
    """Publish once and return SNS's answer. The attributes `topic` and `webhook-id` are for filters and receivers.

    Raises
    ------
    MessageTooLargeError
        If the message is larger than SNS takes.
    UnreachableError
        If there was no answer, or no credentials to ask with.
    """
    if len(body) > LARGEST_MESSAGE - 1024:
        raise MessageTooLargeError(f"the message has {len(body)} bytes; SNS takes {LARGEST_MESSAGE}")
    return await asyncio.to_thread(_publish, arn, body.decode(), message_id, topic, timeout)


def _publish(arn: str, message: str, message_id: str, topic: str, seconds: float) -> Answer:
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - boto3 is large, and few need it

    attributes = {
        "topic": {"DataType": "String", "StringValue": topic},
        "webhook-id": {"DataType": "String", "StringValue": message_id},
    }
    # A FIFO topic keeps the order of a group and drops repetitions of an id by itself.
    fifo = {"MessageGroupId": topic, "MessageDeduplicationId": message_id} if arn.endswith(".fifo") else {}
    try:
        answer = _client(region_of(arn), seconds).publish(
            TopicArn=arn, Message=message, MessageAttributes=attributes, **fifo
        )
    except ClientError as error:
        return Answer(int(error.response["ResponseMetadata"]["HTTPStatusCode"]), str(error)[:500])
    except BotoCoreError as error:
        raise UnreachableError(f"SNS could not be asked: {error}") from error
    return Answer(int(answer["ResponseMetadata"]["HTTPStatusCode"]), str(answer["MessageId"]))


@cache
def _client(region: str, seconds: float) -> Any:  # noqa: ANN401 - boto3 makes its clients at run time
    """Return a client, safe to share between threads; each of its calls is made once and limited in time."""
    import boto3  # noqa: PLC0415
    from botocore.config import Config  # noqa: PLC0415

    config = Config(connect_timeout=seconds, read_timeout=seconds, retries={"total_max_attempts": 1})
    return boto3.session.Session().client("sns", region_name=region, config=config)
