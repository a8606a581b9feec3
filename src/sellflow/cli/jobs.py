"""`sellflow jobs`: what is done periodically, when it was done last, and how it went."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from sellflow.cli.opening import as_owner, ready_database, start
from sellflow.errors import ConfigurationError, SellflowError

if TYPE_CHECKING:
    from sellflow.postgres.database import SessionConnection
    from sellflow.queue.jobs import JobState

#: Terminals narrower than this get the columns that matter most.
NARROW = 100

console = Console(highlight=False, soft_wrap=True)

jobs = typer.Typer(help="Periodic work: when each job ran last, how it went, and when it is due.")


class JobFailedError(SellflowError):
    """A job that was to be run now failed, or is being run by somebody else."""

    code = "jobs.not_done"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(jobs, name="jobs")


@jobs.callback(invoke_without_command=True)
def list_jobs(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a job, for machines.")] = False,
) -> None:
    """Show every job; `sellflow jobs run NAME` runs one now."""
    if context.invoked_subcommand:
        return
    states, now = as_owner(start(), _look)
    if as_json:
        for state in states:
            print(json.dumps(asdict(state), default=str))  # noqa: T201 - alone on standard output, for a machine
    elif not states:
        console.print("No scheduler has run yet. Start one with: sellflow scheduler (or sellflow up)")
    else:
        console.print(_table(states, now, wide=console.width >= NARROW))


async def _look(connection: SessionConnection) -> tuple[list[JobState], datetime]:
    from sellflow.queue.jobs import list_states  # noqa: PLC0415

    return await list_states(connection), datetime.now(UTC)


def _table(states: list[JobState], now: datetime, *, wide: bool) -> Table:
    """Lay the jobs out; a narrow terminal gets the columns that matter most, and names whole."""
    table = Table()
    table.add_column("Job", no_wrap=True)
    columns = _WIDE if wide else _NARROW
    for column in columns:
        table.add_column(column, overflow="fold")
    for state in states:
        cells = _cells(state, now)
        table.add_row(state.job, *(cells[column] for column in columns))
    return table


_WIDE = ("Every", "Last run", "Took", "Result", "Next run", "Missed", "What it did")
_NARROW = ("Last run", "Result", "Next run", "What it did")


def _cells(state: JobState, now: datetime) -> dict[str, str]:
    return {
        "Every": _span(state.every),
        "Last run": f"{_span((now - state.last_started_at).total_seconds())} ago" if state.last_started_at else "never",
        "Took": _took(state),
        "Result": _result(state),
        "Next run": "due" if state.next_run_at <= now else f"in {_span((state.next_run_at - now).total_seconds())}",
        "Missed": str(state.missed or ""),
        "What it did": state.last_error or state.last_detail or "",
    }


def _result(state: JobState) -> str:
    if state.is_running:
        return "running"
    if state.last_result is None:
        return ""
    if state.last_finished_at and state.last_started_at and state.last_started_at > state.last_finished_at:
        return "cut off"
    return f"failed ({state.failures} of {state.runs})" if state.last_result == "failed" else "done"


def _took(state: JobState) -> str:
    if not (state.last_started_at and state.last_finished_at) or state.last_finished_at < state.last_started_at:
        return ""
    return f"{(state.last_finished_at - state.last_started_at).total_seconds():.2f} s"


def _span(seconds: float) -> str:
    """Say a time span as people do: 10 s, 5 min, 6 h."""
    span = timedelta(seconds=max(0, round(seconds)))
    if span < timedelta(minutes=2):
        return f"{span.seconds} s"
    if span < timedelta(hours=2):
        return f"{span.seconds // 60} min"
    hours = span // timedelta(hours=1)
    return f"{hours} h" if hours < 48 else f"{span.days} days"


@jobs.command("run")
def run(name: Annotated[str, typer.Argument(help="The job, as `sellflow jobs` names it.")]) -> None:
    """Run a job now, whether or not it is due; safe while a scheduler runs."""
    import asyncio  # noqa: PLC0415

    from sellflow.postgres.database import Database, Login  # noqa: PLC0415
    from sellflow.queue.job_runs import Outcome, run_job  # noqa: PLC0415
    from sellflow.queue.jobs import declare, list_states  # noqa: PLC0415
    from sellflow.roles import periodic_jobs  # noqa: PLC0415

    settings = start()
    known = {job.name: job for job in periodic_jobs(settings)}
    if name not in known:
        raise ConfigurationError(f"there is no job {name!r} (known: {', '.join(known)})")

    async def work(database: Database) -> tuple[Outcome, JobState]:
        connection = await database.connect(Login.OWNER, purpose="command")
        try:
            await declare(connection, list(known.values()))
            outcome = await run_job(database, known[name])
            states = {state.job: state for state in await list_states(connection)}
            return outcome, states[name]
        finally:
            await connection.close()

    with ready_database(settings) as database:
        outcome, state = asyncio.run(work(database))
    if outcome == "busy":
        raise JobFailedError(f"{name} is being run just now: `sellflow jobs` shows when it is done")
    if outcome == "failed":
        raise JobFailedError(f"{name} failed: {state.last_error}")
    console.print(f"{name}: {state.last_detail} ({_took(state)})")
