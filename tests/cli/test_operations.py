"""`sellflow deadletters` and `sellflow queues`, run as processes of their own beside a laboratory."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

import pytest

from sellflow.cli.queues import age
from sellflow.postgres.database import Database, Pool, SessionConnection
from sellflow.postgres.embedded import SUPERUSER
from tests.cli.commands import PATIENCE, Done, environment, sellflow, until
from tests.conftest import Tenant
from tests.queue.conftest import Laboratory

DOMAIN = "acme.myshopify.com"


class Operator:
    """Somebody who runs commands on the laboratory's database."""

    def __init__(self, lab: Laboratory, folder: Path) -> None:
        self.lab = lab
        self.env = environment(folder, database_session_url=lab.database.session_url, database_owner=SUPERUSER)

    async def runs(self, *arguments: str, code: int = 0) -> Done:
        done = await asyncio.to_thread(sellflow, *arguments, env=self.env)
        assert done.code == code, done.out + done.err
        return done

    async def starts(self, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *[sys.executable, "-m", "sellflow", *arguments], env=self.env, stdout=asyncio.subprocess.PIPE
        )

    async def states(self) -> list[str]:
        rows = await self.lab.owner.fetch("SELECT state FROM dead_letters ORDER BY dead_letter_id")
        return [row["state"] for row in rows]

    async def has_replayed_something(self) -> bool:
        return "replayed" in await self.states()

    async def somebody_looked(self) -> bool:
        """Say whether a command has asked its last question of a look at the queues."""
        return bool(
            await self.lab.owner.fetchval(
                """
                SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'sellflow command'
                    AND query LIKE '%pauses%' AND state = 'idle' AND datname = current_database())
                """
            )
        )


@pytest.fixture
async def operator(
    database: Database, owner: SessionConnection, worker_pool: Pool, tenant: Tenant, tmp_path: Path
) -> Operator:
    lab = Laboratory(database, owner, worker_pool, tenant)
    await lab.prepare()
    return Operator(lab, tmp_path)


async def test_dead_letters_are_listed_shown_replayed_and_discarded(operator: Operator) -> None:
    lab = operator.lab
    assert "No dead letter waits." in (await operator.runs("deadletters", "list")).out
    await lab.put("hopeless", topic="lab.strict")
    await lab.put("fail [/bold]", "unreadable", "say and fail")
    await lab.work()
    assert await operator.states() == ["waiting", "waiting"]
    listed = (await operator.runs("deadletters", "list", "--topic", "lab.*", "--shop", DOMAIN)).out
    assert "lab.hopeless: not ever" in listed
    assert "payload.invalid" not in listed, "lab.* is two words"

    facts = json.loads((await operator.runs("deadletters", "list", "--topic", "lab.#", "--json")).out)
    assert [each["error_code"] for each in facts] == ["payload.invalid", "lab.hopeless"]
    first = str(facts[1]["dead_letter_id"])
    shown = (await operator.runs("deadletters", "show", first)).out
    for word in ("HopelessError", "in _misbehave", "hopeless", "waiting", "nothing waits"):
        assert (word in shown) == (word != "nothing waits"), word

    assert (
        "1 dead letter(s) replayed." in (await operator.runs("deadletters", "replay", first, "--reason", "mended")).out
    )
    again = await operator.runs("deadletters", "replay", first)
    assert "0 dead letter(s) replayed." in again.out
    assert "was replayed already" in again.out
    lab.cured = True
    await lab.work()
    assert await lab.effects() == ["fail [/bold]", "hopeless"]

    refused = await operator.runs("deadletters", "discard", "--code", "payload.invalid", code=1)
    assert "Discard 1 dead letter(s)?" in refused.out
    assert (
        "1 dead letter(s) discarded."
        in (await operator.runs("deadletters", "discard", "--code", "payload.invalid", "--yes")).out
    )
    assert sorted(await operator.states()) == ["discarded", "replayed"]
    told = (await operator.runs("deadletters", "list", "--state", "all")).out
    assert "discarded" in told
    assert "replayed" in told


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("replay",), "name the ids, a filter such as --queue, or --all"),
        (("replay", "1", "--queue", "lab"), "ids or a filter, not both"),
        (("list", "--state", "odd"), "--state is waiting, replayed, discarded or all"),
    ],
)
async def test_a_request_that_means_nothing_clear_is_refused(
    operator: Operator, arguments: tuple[str, ...], words: str
) -> None:
    assert words in (await operator.runs("deadletters", *arguments, code=2)).err


async def test_what_cannot_be_replayed_is_said_and_the_exit_status_tells(operator: Operator) -> None:
    lab = operator.lab
    await lab.put("hopeless")
    await lab.work()
    letter = str(await lab.owner.fetchval("SELECT dead_letter_id FROM dead_letters"))
    await lab.owner.execute("DELETE FROM events")
    done = await operator.runs("deadletters", "replay", letter, code=1)
    assert "queue.event_gone" in done.out
    assert "can be discarded, not replayed" in (await operator.runs("deadletters", "show", letter)).out
    assert "no dead letter 4711" in (await operator.runs("deadletters", "show", "4711", code=1)).err
    assert await operator.states() == ["waiting"]


async def test_an_interrupted_replay_leaves_whole_batches_and_is_resumed_by_running_it_again(
    operator: Operator,
) -> None:
    lab = operator.lab
    await lab.put(*["hopeless"] * 20)
    await lab.work()
    # One every ten seconds: nobody waits for the second.
    process = await operator.starts("deadletters", "replay", "--all", "--rate", "0.1")
    await until(operator.has_replayed_something)
    process.send_signal(signal.SIGINT)
    said, _ = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert process.returncode == 130
    assert b"run the same command again" in said
    assert await lab.waiting() == (await operator.states()).count("replayed") < 20
    await operator.runs("deadletters", "replay", "--queue", "lab", "--rate", "100000")
    lab.cured = True
    await lab.work()
    assert await lab.effects() == ["hopeless"] * 20


async def test_queues_are_shown_paused_and_resumed(operator: Operator) -> None:
    lab = operator.lab
    await lab.put("hopeless", "fail", "a", "b")
    await lab.work()
    await lab.put("waits")
    await operator.runs("queues", "pause", "lab", "--reason", "to [see]")
    await operator.runs("queues", "pause", "all", "--shop", DOMAIN, "--reason", "a quarrel")
    assert await lab.claim() == []
    shown = (await operator.runs("queues")).out
    assert "Followers" in shown
    assert "the queue lab: to [see]" in shown
    assert f"all queues, {DOMAIN} alone: a quarrel" in shown
    facts = json.loads((await operator.runs("queues", "--json")).out)
    found = next(each for each in facts["queues"] if each["queue"] == "lab")
    assert (found["waiting"], found["parked"], found["dead"], found["paused"]) == (1, 1, 1, True)
    assert len(facts["pauses"]) == 2
    assert "Resumed: the queue lab." in (await operator.runs("queues", "resume", "lab")).out
    assert "It was not paused" in (await operator.runs("queues", "resume", "lab")).out
    await operator.runs("queues", "resume", "all", "--shop", DOMAIN)
    assert [each.key for each in await lab.claim()] == ["waits"]
    assert "no queue 'lap'" in (await operator.runs("queues", "pause", "lap", "--reason", "x", code=1)).err


async def test_the_live_table_ends_with_ctrl_c_and_fits_a_narrow_terminal(operator: Operator) -> None:
    operator.env["COLUMNS"] = "44"
    process = await operator.starts("queues", "--watch")
    await until(operator.somebody_looked)
    process.send_signal(signal.SIGINT)
    said, _ = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert process.returncode == 0
    lines = said.decode().splitlines()
    assert any("outside" in line for line in lines)
    assert all(len(line) <= 44 for line in lines)
    assert not any("…" in line for line in lines)


async def test_an_orders_story_tells_of_its_dead_letters(operator: Operator) -> None:
    lab = operator.lab
    await lab.put("hopeless", key="order:7")
    await lab.work()
    letter = str(await lab.owner.fetchval("SELECT dead_letter_id FROM dead_letters"))
    story = await operator.runs("explain", "order", "7")
    assert f"sellflow deadletters replay {letter}" in story.out
    await operator.runs("deadletters", "replay", letter, "--reason", "mended")
    told = " ".join((await operator.runs("explain", "order", "7")).out.replace("│", " ").split())
    assert "On its way: a message waits for a worker" in told
    assert f"dead letter {letter}" in told
    assert "(mended)" in told
    await lab.work()
    await operator.runs("deadletters", "discard", letter, "--reason", "hopeless")
    told = " ".join((await operator.runs("explain", "order", "7")).out.replace("│", " ").split())
    assert f"No points: dead letter {letter} of the queue lab was discarded" in told


def test_an_age_is_told_in_its_largest_unit() -> None:
    assert [age(seconds) for seconds in (0, 59, 60, 7200, 200_000)] == ["0 s", "59 s", "1 min", "2 h", "2 d"]
