"""Dead letters: list, show, replay and discard, for merchants and for services."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator
from starlette.responses import Response

from sellflow.edge.audiences import Audience, Text
from sellflow.edge.callers import Caller
from sellflow.edge.idempotency import CurrentRequest
from sellflow.edge.pagination import decode_cursor, encode_cursor
from sellflow.edge.problems import problem_responses
from sellflow.postgres.database import Connection
from sellflow.postgres.transactions import admin_transaction
from sellflow.queue.dead_letters import (
    DeadLetter,
    LetterFilter,
    LetterStory,
    State,
    count_letters,
    excerpt,
    ids_after,
    list_letters,
    show_letter,
)
from sellflow.queue.replay import MOST_AT_ONCE, Decision, Resolve, discard, replay

LARGEST_PAGE = 200
PAYLOAD_LINES = 500
_EARLIEST, _LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


def _usual(moment: datetime) -> datetime:
    """Return a time in UTC, of the centuries in which anything of ours can have happened."""
    known = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if not _EARLIEST <= known < _LATEST:
        raise ValueError("is not between 1970 and 2200")
    return known.astimezone(UTC)


Moment = Annotated[datetime, AfterValidator(_usual)]
Id = Annotated[int, Field(ge=1, le=2**63 - 1)]
LetterId = Annotated[int, Path(ge=1, le=2**63 - 1, description="The dead letter's number.")]
Cursor = Annotated[str, StringConstraints(max_length=64)]


class LetterQuery(BaseModel):
    """Which dead letters are meant; what is left out matches all of them."""

    model_config = ConfigDict(extra="forbid")

    queue: Text | None = None
    shop: Text | None = Field(default=None, description="The shop's domain; for services of the whole installation.")
    topic: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.*#-]{1,255}$")] | None = Field(
        default=None, description="A pattern: * is one word, # any number."
    )
    handler: Text | None = None
    code: Text | None = Field(default=None, description="The error's code.")
    key: Text | None = Field(default=None, description="What it is about, such as order:450789469.")
    since: Moment | None = Field(default=None, description="Failed last then or later.")
    until: Moment | None = Field(default=None, description="Failed last before then.")

    def for_caller(self, caller: Caller, *, state: State | None, ids: Sequence[int] | None = None) -> LetterFilter:
        """Return the filter, within what the caller may see."""
        return LetterFilter(
            ids=None if ids is None else tuple(ids),
            queue=self.queue,
            shop_id=caller.shop_id,
            shop_domain=self.shop,
            topic=self.topic,
            handler=self.handler,
            error_code=self.code,
            key=self.key,
            state=state,
            failed_since=self.since,
            failed_until=self.until,
        )


class LetterListQuery(LetterQuery):
    """Which page of which dead letters."""

    state: State | None = Field(default="waiting", description="waiting, replayed or discarded.")
    cursor: Cursor | None = Field(default=None, description="Where to go on; `next_cursor` of a page.")
    limit: Annotated[int, Field(ge=1, le=LARGEST_PAGE)] = 50


class LetterChoice(BaseModel):
    """Dead letters by their ids, by a filter, or all that wait; exactly one of these."""

    model_config = ConfigDict(extra="forbid")

    ids: Annotated[list[Id], Field(min_length=1, max_length=MOST_AT_ONCE)] | None = None
    filter: LetterQuery | None = None
    all: bool = Field(default=False, description="All that wait.")
    limit: Annotated[int, Field(ge=1, le=MOST_AT_ONCE)] = Field(
        default=MOST_AT_ONCE, description="At most so many at a time: go on with `next_cursor`."
    )
    cursor: Cursor | None = Field(default=None, description="Where to go on; `next_cursor` of the answer before.")
    reason: Text = Field(default="", description="Why; kept with the dead letters.")

    @model_validator(mode="after")
    def _one_way(self) -> LetterChoice:
        is_filtered = self.filter is not None and self.filter != LetterQuery()
        if [self.ids is not None, is_filtered, self.all].count(True) != 1:
            raise ValueError("name ids, a filter, or all: one of these")
        return self


class LetterAnswer(BaseModel):
    """A message that was set aside after its last attempt."""

    id: int
    shop: str | None
    queue: str
    topic: str
    key: str
    handler: str
    event_id: int
    day: date
    attempts: int
    error_code: str
    error_message: str
    first_failed_at: datetime
    failed_at: datetime
    blocks_key: bool = Field(description="Whether later messages about the same wait until it is resolved.")
    replays: int
    state: State
    resolved_at: datetime | None
    resolved_by: str
    reason: str


class LettersAnswer(BaseModel):
    """A page of dead letters, newest first."""

    items: list[LetterAnswer]
    next_cursor: str | None = Field(description="Pass it as `cursor` to get the next page; null on the last one.")


class AttemptAnswer(BaseModel):
    """One failed attempt; `replay` is the number of the round, 0 before the first replay."""

    replay: int
    attempt: int
    handler: str
    error_code: str
    error_message: str
    failed_at: datetime


class StoryAnswer(LetterAnswer):
    """A dead letter with all that is known of it."""

    history: list[AttemptAnswer]
    payload: str | None = Field(description="The event, laid out; null where the log holds it no more.")
    followers: int = Field(description="Messages that wait behind it.")
    stack_trace: str | None = Field(description="For services alone.")


class RefusalAnswer(BaseModel):
    """Why a dead letter was left as it is."""

    id: int
    code: str
    message: str


class ResolutionAnswer(BaseModel):
    """Which dead letters were resolved, and which were not."""

    resolved: list[int]
    refused: list[RefusalAnswer]
    remaining: int = Field(description="Those of the filter that still wait, refused ones included.")
    next_cursor: str | None = Field(description="Pass it as `cursor` to go on; null when all were looked at.")


def letter_routes(audience: Audience) -> APIRouter:
    """Return the routes for an audience."""
    router = APIRouter(prefix=audience.prefix, tags=[audience.tag])
    reads, writes = audience.reads, audience.writes

    @router.get("", summary="Dead letters", responses=problem_responses(400, 401, 403, 429, 503))
    async def list_some(
        request: Request, wanted: Annotated[LetterListQuery, Query()], caller: Caller = reads
    ) -> LettersAnswer:
        """Return dead letters, newest first."""
        before = decode_cursor(wanted.cursor) if wanted.cursor else None
        chosen = wanted.for_caller(caller, state=wanted.state)
        async with admin_transaction(request.app.state.admin_pool, caller.shop_id) as connection:
            found = await list_letters(connection, chosen, limit=wanted.limit + 1, before=before)
        page = found[: wanted.limit]
        return LettersAnswer(
            items=[_letter(each) for each in page],
            next_cursor=encode_cursor(page[-1].dead_letter_id) if len(found) > wanted.limit else None,
        )

    @router.get("/{letter_id}", summary="One with its story", responses=problem_responses(400, 401, 403, 404, 429, 503))
    async def show(request: Request, letter_id: LetterId, caller: Caller = reads) -> StoryAnswer:
        """Return a dead letter with its attempts and its event."""
        async with admin_transaction(request.app.state.admin_pool, caller.shop_id) as connection:
            story = await show_letter(connection, letter_id)
        return _story(story, with_trace=not audience.is_merchants)

    _add_resolving(router, "replay", "Put them back into their queue", replay, writes)
    _add_resolving(router, "discard", "Give them up", discard, writes)
    return router


def _add_resolving(router: APIRouter, word: str, summary: str, resolve: Resolve, writes: Caller) -> None:
    @router.post(
        f"/{word}",
        name=word,
        summary=summary,
        response_model=ResolutionAnswer,
        responses=problem_responses(400, 401, 403, 409, 413, 422, 429, 503),
    )
    async def resolve_some(
        request: Request, once: CurrentRequest, choice: LetterChoice, caller: Caller = writes
    ) -> Response:
        """Resolve dead letters, up to 200 in one transaction. Who did it, and why, is kept with them."""
        after = decode_cursor(choice.cursor) if choice.cursor else 0

        async def work(connection: Connection) -> ResolutionAnswer:
            return await _resolve(connection, caller, choice, resolve, after=after)

        return await once.run(caller, admin_transaction(request.app.state.admin_pool, caller.shop_id), work)


async def _resolve(
    connection: Connection, caller: Caller, choice: LetterChoice, resolve: Resolve, *, after: int
) -> ResolutionAnswer:
    waiting = (choice.filter or LetterQuery()).for_caller(caller, state="waiting", ids=choice.ids)
    if choice.ids is not None:
        ids = sorted(set(choice.ids))
        more = False
    else:
        found = await ids_after(connection, waiting, after=after, limit=choice.limit + 1)
        ids, more = found[: choice.limit], len(found) > choice.limit
    resolution = await resolve(connection, ids, Decision(by=caller.name, reason=choice.reason))
    return ResolutionAnswer(
        resolved=resolution.resolved,
        refused=[
            RefusalAnswer(id=each.dead_letter_id, code=each.code, message=each.message) for each in resolution.refused
        ],
        remaining=await count_letters(connection, waiting),
        next_cursor=encode_cursor(ids[-1]) if more else None,
    )


def _letter(letter: DeadLetter) -> LetterAnswer:
    return LetterAnswer(
        id=letter.dead_letter_id,
        shop=letter.shop_domain,
        **{name: getattr(letter, name) for name in LetterAnswer.model_fields if name not in ("id", "shop")},
    )


def _story(story: LetterStory, *, with_trace: bool) -> StoryAnswer:
    attempts = [
        AttemptAnswer(**{name: getattr(each, name) for name in AttemptAnswer.model_fields}) for each in story.attempts
    ]
    return StoryAnswer(
        **_letter(story.letter).model_dump(),
        history=attempts,
        payload=None if story.payload is None else excerpt(story.payload, lines=PAYLOAD_LINES),
        followers=story.followers,
        stack_trace=story.stack_trace if with_trace else None,
    )
