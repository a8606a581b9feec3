"""Calls to the outside world: made before the transaction that acknowledges their messages, and outside of it."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sellflow.postgres.database import Pool
from sellflow.postgres.transactions import batch_transaction
from sellflow.queue.claims import Claim, look
from sellflow.queue.topics import Event


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call came to."""

    value: Any = None
    error: Exception | None = None


#: Makes the call of one message; an error is an answer, too.
Ask = Callable[[Claim, Event], Awaitable[Answer]]


async def call_outside(
    pool: Pool, queue: str, claims: Sequence[Claim], ask: Ask, *, at_a_time: int
) -> dict[int, Answer]:
    """Ask what messages want asked, at most `at_a_time` of them at once; return the answers by message id.

    Messages of one key go one after the other and stop at the first that fails.
    """
    async with pool.acquire() as connection, batch_transaction(connection, (each.shop_id for each in claims)):
        found = await look(connection, queue, claims)
    lines: dict[Any, list[tuple[Claim, Event]]] = defaultdict(list)
    for held, event in found:
        lines[held.line or held.msg_id].append((held, event))
    answers: dict[int, Answer] = {}
    room = asyncio.Semaphore(at_a_time)

    async def follow(line: Sequence[tuple[Claim, Event]]) -> None:
        for held, event in line:
            async with room:
                answers[held.msg_id] = await ask(held, event)
            if answers[held.msg_id].error:
                return

    async with asyncio.TaskGroup() as group:
        for line in lines.values():
            group.create_task(follow(line))
    return answers
