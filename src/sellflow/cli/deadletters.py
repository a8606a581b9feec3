"""`sellflow deadletters`: what was set aside after its last attempt, and what becomes of it."""

from __future__ import annotations

import asyncio
import getpass
import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from sellflow.cli.opening import as_owner, start
from sellflow.errors import ConfigurationError

if TYPE_CHECKING:
    from sellflow.postgres.database import SessionConnection
    from sellflow.queue.dead_letters import DeadLetter, LetterFilter, LetterStory
    from sellflow.queue.replay import Resolution, Resolve

console = Console(highlight=False)
deadletters = typer.Typer(
    help="Messages that were set aside after their last attempt: look at them, replay or discard them.",
    no_args_is_help=True,
)

PAYLOAD_LINES = 40
TIMES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]

Ids = Annotated[list[int] | None, typer.Argument(help="Ids of dead letters; or use the filters below.", min=1)]
Queue = Annotated[str | None, typer.Option(help="Of this queue.")]
ShopDomain = Annotated[str | None, typer.Option("--shop", help="Of the shop with this domain.")]
Topic = Annotated[str | None, typer.Option(help="With a topic that matches: * is one word, # any number.")]
HandlerName = Annotated[str | None, typer.Option("--handler", help="Of this handler.")]
Code = Annotated[str | None, typer.Option("--code", help="With this error code.")]
Key = Annotated[str | None, typer.Option(help="About this, such as order:450789469.")]
Since = Annotated[datetime | None, typer.Option(help="Failed last at this time (UTC) or later.", formats=TIMES)]
Until = Annotated[datetime | None, typer.Option(help="Failed last before this time (UTC).", formats=TIMES)]
All = Annotated[bool, typer.Option("--all", help="All that wait, where neither ids nor a filter are given.")]
Limit = Annotated[int | None, typer.Option(help="At most so many.", min=1)]
Reason = Annotated[str, typer.Option(help="Why; kept with the dead letters.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(deadletters, name="deadletters")


@deadletters.command("list")
def list_command(
    *,
    queue: Queue = None,
    shop: ShopDomain = None,
    topic: Topic = None,
    handler: HandlerName = None,
    code: Code = None,
    key: Key = None,
    since: Since = None,
    until: Until = None,
    state: Annotated[str, typer.Option(help="waiting, replayed, discarded or all.")] = "waiting",
    limit: Annotated[int, typer.Option(help="At most so many.", min=1, max=10_000)] = 50,
    before: Annotated[int | None, typer.Option(help="Go on below this id: the last one of the page before.")] = None,
    as_json: AsJson = False,
) -> None:
    """List dead letters, the newest first."""
    from sellflow.queue.dead_letters import STATES, list_letters  # noqa: PLC0415

    if state not in (*STATES, "all"):
        raise ConfigurationError(f"--state is {', '.join(STATES)} or all, not {state!r}")
    wanted = _filter(
        queue=queue, shop=shop, topic=topic, handler=handler, code=code, key=key, since=since, until=until, state=state
    )
    letters = as_owner(start(), lambda c: list_letters(c, wanted, limit=limit, before=before))
    if as_json:
        print(json.dumps([asdict(each) for each in letters], default=str, indent=2))  # noqa: T201 - for a machine
    elif letters:
        console.print(_letters_table(letters))
        if len(letters) == limit:
            console.print(f"There may be more: --before {letters[-1].dead_letter_id}")
    else:
        console.print("No dead letter waits." if state == "waiting" else "There is no such dead letter.")


@deadletters.command("show")
def show_command(
    dead_letter_id: Annotated[int, typer.Argument(metavar="ID", help="The dead letter's id.", min=1)],
    as_json: AsJson = False,
) -> None:
    """Show all that is known of one: its attempts, its stack trace, and the beginning of its payload."""
    from sellflow.queue.dead_letters import show_letter  # noqa: PLC0415

    story = as_owner(start(), lambda c: show_letter(c, dead_letter_id))
    if as_json:
        facts = asdict(story) | {"payload": None if story.payload is None else story.payload.decode(errors="replace")}
        print(json.dumps(facts, default=str, indent=2))  # noqa: T201 - for a machine
    else:
        _show(story)


@deadletters.command("replay")
def replay_command(
    *,
    ids: Ids = None,
    queue: Queue = None,
    shop: ShopDomain = None,
    topic: Topic = None,
    handler: HandlerName = None,
    code: Code = None,
    key: Key = None,
    since: Since = None,
    until: Until = None,
    everything: All = False,
    limit: Limit = None,
    rate: Annotated[float, typer.Option(help="At most so many a second.", min=0.01, max=100_000)] = 50,
    reason: Reason = "",
) -> None:
    """Put dead letters back into their queues. Safe to run twice, to interrupt (Ctrl-C) and to run again."""
    from sellflow.queue.replay import replay  # noqa: PLC0415

    wanted = _chosen(
        ids,
        everything,
        _filter(
            queue=queue,
            shop=shop,
            topic=topic,
            handler=handler,
            code=code,
            key=key,
            since=since,
            until=until,
            state="waiting",
        ),
    )
    _finish(
        "replayed",
        as_owner(
            start(), lambda c: _resolve(c, wanted, replay, doing="Replaying", reason=reason, rate=rate, limit=limit)
        ),
    )


@deadletters.command("discard")
def discard_command(
    *,
    ids: Ids = None,
    queue: Queue = None,
    shop: ShopDomain = None,
    topic: Topic = None,
    handler: HandlerName = None,
    code: Code = None,
    key: Key = None,
    since: Since = None,
    until: Until = None,
    everything: All = False,
    limit: Limit = None,
    reason: Reason = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask whether to discard what a filter finds.")] = False,
) -> None:
    """Give dead letters up; what waits behind them goes on. They stay as a record, and are never replayed."""
    from sellflow.queue.dead_letters import count_letters  # noqa: PLC0415
    from sellflow.queue.replay import discard  # noqa: PLC0415

    wanted = _chosen(
        ids,
        everything,
        _filter(
            queue=queue,
            shop=shop,
            topic=topic,
            handler=handler,
            code=code,
            key=key,
            since=since,
            until=until,
            state="waiting",
        ),
    )
    settings = start()
    if ids is None and not yes:
        found = as_owner(settings, lambda c: count_letters(c, wanted))
        typer.confirm(f"Discard {min(found, limit or found)} dead letter(s)?", abort=True)
    _finish(
        "discarded",
        as_owner(
            settings, lambda c: _resolve(c, wanted, discard, doing="Discarding", reason=reason, rate=None, limit=limit)
        ),
    )


def _filter(
    *,
    queue: str | None,
    shop: str | None,
    topic: str | None,
    handler: str | None,
    code: str | None,
    key: str | None,
    since: datetime | None,
    until: datetime | None,
    state: str,
) -> LetterFilter:
    from sellflow.queue.dead_letters import STATES, LetterFilter  # noqa: PLC0415

    return LetterFilter(
        queue=queue,
        shop_domain=shop,
        topic=topic,
        handler=handler,
        error_code=code,
        key=key,
        state=next((each for each in STATES if each == state), None),
        failed_since=since and since.replace(tzinfo=UTC),
        failed_until=until and until.replace(tzinfo=UTC),
    )


def _chosen(ids: list[int] | None, everything: bool, found: LetterFilter) -> LetterFilter:
    """Return what is meant; nobody means all of them by leaving everything out."""
    from sellflow.queue.dead_letters import LetterFilter  # noqa: PLC0415

    is_filtered = found != LetterFilter(state="waiting")
    if ids and (is_filtered or everything):
        raise ConfigurationError("name ids or a filter, not both")
    if not ids and not is_filtered and not everything:
        raise ConfigurationError("name the ids, a filter such as --queue, or --all")
    return LetterFilter(ids=tuple(ids)) if ids else found


async def _resolve(
    connection: SessionConnection,
    wanted: LetterFilter,
    resolve: Resolve,
    *,
    doing: str,
    reason: str,
    rate: float | None,
    limit: int | None,
) -> tuple[Resolution, bool]:
    """Resolve what is meant under a progress bar; return what came of it, and whether it was interrupted."""
    from sellflow.queue.dead_letters import count_letters  # noqa: PLC0415
    from sellflow.queue.replay import Decision, resolve_many  # noqa: PLC0415

    total = len(wanted.ids) if wanted.ids is not None else await count_letters(connection, wanted)
    stop = asyncio.Event()
    with _progress(doing, min(total, limit or total)) as advance, _interrupts(stop):
        resolution = await resolve_many(
            connection,
            wanted,
            resolve,
            Decision(by=getpass.getuser(), reason=reason),
            rate=rate,
            limit=limit,
            stop=stop,
            progress=lambda batch: advance(len(batch.resolved) + len(batch.refused)),
        )
    return resolution, stop.is_set()


@contextmanager
def _progress(doing: str, total: int) -> Iterator[Callable[[int], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(doing, total=total)
        yield lambda count: bar.advance(task, count)


@contextmanager
def _interrupts(stop: asyncio.Event) -> Iterator[None]:
    """Let the first Ctrl-C end the work after the batch in hand."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def _finish(done: str, came: tuple[Resolution, bool]) -> None:
    """Say what came of it; exit with 1 where a letter could not be resolved, with 130 after an interruption."""
    resolution, interrupted = came
    console.print(f"{len(resolution.resolved)} dead letter(s) {done}.")
    for refusal in resolution.refused:
        console.print(Text(f"{refusal.code}: {refusal.message}"), soft_wrap=True)
    if interrupted:
        console.print("Interrupted: run the same command again to go on.")
        raise typer.Exit(130)
    # A letter that somebody resolved already is where it should be.
    if any(refusal.code != "dead_letter.resolved" for refusal in resolution.refused):
        raise typer.Exit(1)


def _letters_table(letters: list[DeadLetter]) -> Table:
    table = Table("Id", "Failed last (UTC)", "Queue", "Shop", "Topic", "About", "Attempts", "Error", "State")
    for each in letters:
        state = each.state + (f", replayed {each.replays}" if each.replays and each.state == "waiting" else "")
        table.add_row(
            str(each.dead_letter_id),
            f"{each.failed_at:%Y-%m-%d %H:%M:%S}",
            each.queue,
            each.shop_domain or str(each.shop_id),
            each.topic,
            Text(each.key),
            str(each.attempts),
            Text(f"{each.error_code}: {each.error_message[:200]}"),
            state,
        )
    return table


def _show(story: LetterStory) -> None:
    letter = story.letter
    facts = Table.grid(padding=(0, 2))
    for name, value in _facts(story):
        facts.add_row(name, Text(value))
    console.print(Panel(facts, title=f"Dead letter {letter.dead_letter_id}", title_align="left"))
    attempts = Table("Round", "Attempt", "Failed (UTC)", "Handler", "Error", title="Attempts", title_justify="left")
    for each in story.attempts:
        error = Text(f"{each.error_code}: {each.error_class}: {each.error_message}")
        failed_at = f"{each.failed_at:%Y-%m-%d %H:%M:%S}"
        attempts.add_row(str(each.replay + 1), str(each.attempt), failed_at, each.handler, error)
    console.print(attempts)
    console.print(Panel(Text(story.stack_trace.rstrip()), title="Stack trace", title_align="left"))
    console.print(Panel(Text(_payload(story)), title="Payload", title_align="left"))


def _facts(story: LetterStory) -> list[tuple[str, str]]:
    letter = story.letter
    resolved = f" at {letter.resolved_at:%Y-%m-%d %H:%M:%S} by {letter.resolved_by}" if letter.resolved_at else ""
    return [
        ("State", f"{letter.state}{resolved}{': ' if letter.reason else ''}{letter.reason}"),
        ("Error", f"{letter.error_code} ({letter.error_class}): {letter.error_message}"),
        ("Shop", letter.shop_domain or str(letter.shop_id)),
        ("Queue", f"{letter.queue}, handler {letter.handler}"),
        ("Event", f"{letter.event_id} of {letter.day}, topic {letter.topic or 'unknown'}, about {letter.key or '-'}"),
        ("First failed", f"{letter.first_failed_at:%Y-%m-%d %H:%M:%S} UTC"),
        ("Last failed", f"{letter.failed_at:%Y-%m-%d %H:%M:%S} UTC, attempt {letter.attempts}"),
        ("Replays", str(letter.replays)),
        ("Behind it", f"{story.followers} message(s) wait" if letter.blocks_key else "nothing waits"),
    ]


def _payload(story: LetterStory) -> str:
    from sellflow.queue.dead_letters import excerpt  # noqa: PLC0415

    if story.payload is None:
        return "The event log holds this event no more: the letter can be discarded, not replayed."
    return excerpt(story.payload, lines=PAYLOAD_LINES)
