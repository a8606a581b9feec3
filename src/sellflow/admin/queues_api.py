"""GET /v1/queues: what the queues hold and what is paused, for services of the whole installation."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from sellflow.edge.problems import Problem, problem_responses
from sellflow.edge.service_keys import Scope
from sellflow.edge.services import CurrentService, ServiceSession
from sellflow.postgres.transactions import admin_transaction
from sellflow.queue.figures import read_figures
from sellflow.queue.pauses import list_pauses

router = APIRouter(prefix="/v1/queues", tags=["services"])


class QueueAnswer(BaseModel):
    """What one queue holds; exact up to 10,000 and an estimate above."""

    queue: str
    waiting: int
    in_flight: int
    parked: int = Field(description="Wait for another attempt.")
    followers: int = Field(description="Wait behind an elder message about the same.")
    dead: int
    oldest_seconds: float
    paused: bool
    paused_shops: int


class PauseAnswer(BaseModel):
    """What is paused; null is all of them."""

    queue: str | None
    shop: str | None
    reason: str
    paused_at: datetime


class QueuesAnswer(BaseModel):
    """All queues, and what is paused."""

    queues: list[QueueAnswer]
    pauses: list[PauseAnswer]


@router.get("", summary="Queues", responses=problem_responses(401, 403, 429, 503))
async def get_queues(
    request: Request, service: Annotated[ServiceSession, CurrentService(Scope.QUEUES_READ)]
) -> QueuesAnswer:
    """Return what every queue holds."""
    if service.shop_id is not None:
        raise Problem(403, "auth.not_installation", "Queues are every shop's: this needs a key of the installation.")
    async with admin_transaction(request.app.state.admin_pool, None) as connection:
        figures, pauses = await read_figures(connection), await list_pauses(connection)
    return QueuesAnswer(
        queues=[QueueAnswer(**{name: getattr(each, name) for name in QueueAnswer.model_fields}) for each in figures],
        pauses=[
            PauseAnswer(queue=each.queue, shop=each.shop_domain, reason=each.reason, paused_at=each.paused_at)
            for each in pauses
        ],
    )
