"""`sellflow deadletters` and `sellflow queues`: what they do, and what they say."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from sellflow.cli.queues import age
from sellflow.postgres.embedded import SUPERUSER, EmbeddedPostgres
from tests.cli.commands import PATIENCE, CommandLine, Done, environment, logging_undone
from tests.conftest import FAST

DOMAIN = "acme.myshopify.com"


class Operator:
    """Somebody who runs commands on an installation with one shop."""

    def __init__(self, line: CommandLine, data_dir: Path, url: str) -> None:
        self._line = line
        self.env = environment(data_dir)
        self.url = url

    def runs(self, *arguments: str, code: int = 0, stdin: str = "") -> Done:
        done = self._line.run(*arguments, env=self.env, stdin=stdin)
        assert done.code == code, done.out + done.err
        return done

    def starts(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "sellflow", *arguments]
        return subprocess.Popen(command, env=self.env, stdout=subprocess.PIPE, text=True)

    def sql(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        with psycopg.connect(self.url, user=SUPERUSER) as connection:
            # Without values, a % in the statement is no placeholder.
            cursor = connection.execute(statement.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    def has_letters(self, *, first: int = 1, count: int = 1, code: str = "lab.hopeless", blocks: bool = False) -> None:
        """Let the loyalty queue have failed at orders from `first` on; the dead letters have the same numbers."""
        self.sql(
            """
            WITH numbers AS (
                SELECT generate_series(%s::bigint, %s::bigint) AS n
            ), shop AS (
                SELECT * FROM shops WHERE domain = %s
            ), stored AS (
                INSERT INTO events (day, event_id, app_id, shop_id, shop_domain, topic, key, payload)
                SELECT (now() AT TIME ZONE 'UTC')::date, n, app_id, shop_id, domain, 'shopify.orders.paid',
                       'order:' || n, convert_to(json_build_object('id', n)::text, 'utf8') FROM numbers, shop
            ), ended AS (
                INSERT INTO outcomes (day, event_id, queue, shop_id, handler, outcome, detail, attempts)
                SELECT (now() AT TIME ZONE 'UTC')::date, n, 'loyalty', shop_id, 'earn', 'dead', 'not [ever]', 1
                FROM numbers, shop
            ), tried AS (
                INSERT INTO failed_attempts (shop_id, day, event_id, queue, replay, attempt, handler, error_code,
                                             error_class, error_message)
                SELECT shop_id, (now() AT TIME ZONE 'UTC')::date, n, 'loyalty', 0, 1, 'earn', %s, 'HopelessError',
                       'not [ever]' FROM numbers, shop
            )
            INSERT INTO dead_letters (dead_letter_id, shop_id, queue, msg_id, topic, day, event_id, key, handler,
                                      attempts, error_code, error_class, error_message, stack_trace,
                                      first_failed_at, blocks_key)
            OVERRIDING SYSTEM VALUE
            SELECT n, shop_id, 'loyalty', n, 'shopify.orders.paid', (now() AT TIME ZONE 'UTC')::date, n,
                   'order:' || n, 'earn', 1, %s, 'HopelessError', 'not [ever]', 'Traceback: in _apply', now(), %s
            FROM numbers, shop
            """,
            *(first, first + count - 1, DOMAIN, code, code, blocks),
        )

    def states(self) -> list[object]:
        return [state for (state,) in self.sql("SELECT state FROM dead_letters ORDER BY dead_letter_id")]

    def waiting(self) -> object:
        return self.sql("SELECT count(*) FROM pgmq.q_loyalty")[0][0]


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[tuple[Path, str]]:
    """Keep a server up between the commands: each of them would start and stop it."""
    with EmbeddedPostgres(folder / "operator", extra=FAST).running() as url:
        yield folder / "operator", url


@pytest.fixture
def operator(
    server: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Operator]:
    with logging_undone():
        made = Operator(CommandLine(monkeypatch, capsys), *server)
        if DOMAIN not in made.runs("shops", "list").out:
            made.runs("apps", "add", "acme", "--secret-stdin", stdin="hush\n")
            made.runs("shops", "add", DOMAIN, "--app", "acme")
        made.sql("TRUNCATE events, outcomes, failed_attempts, dead_letters, parked_messages, pauses, pgmq.q_loyalty")
        yield made


def until(reached: Callable[[], object]) -> None:
    """Look again and again until another process brought something about."""
    deadline = time.monotonic() + PATIENCE
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_dead_letters_are_listed_by_what_they_are(operator: Operator) -> None:
    assert "No dead letter waits." in operator.runs("deadletters", "list").out
    operator.has_letters(count=2)
    operator.has_letters(first=3, code="payload.invalid")

    def found(*filters: str) -> list[int]:
        listed = json.loads(operator.runs("deadletters", "list", "--json", *filters).out)
        return [each["dead_letter_id"] for each in listed]

    assert found() == [3, 2, 1]
    assert found("--limit", "2") == [3, 2]
    assert found("--limit", "2", "--before", "2") == [1]
    assert found("--code", "payload.invalid") == [3]
    assert found("--topic", "shopify.#", "--shop", DOMAIN, "--handler", "earn", "--queue", "loyalty") == [3, 2, 1]
    assert found("--topic", "shopify.*") == [], "a star is one word"
    assert found("--key", "order:2") == [2]
    assert (
        found("--shop", "other.myshopify.com") == found("--since", "2999-01-01") == found("--state", "replayed") == []
    )
    assert found("--until", "2999-01-01") == [3, 2, 1]
    assert "lab.hopeless: not [ever]" in operator.runs("deadletters", "list").out
    assert "There may be more: --before 3" in operator.runs("deadletters", "list", "--limit", "1").out


def test_one_is_shown_with_all_that_is_known_of_it(operator: Operator) -> None:
    operator.has_letters(blocks=True)
    shown = operator.runs("deadletters", "show", "1").out
    for word in ("HopelessError): not [ever]", "in _apply", '"id": 1', "order:1", DOMAIN, "0 message(s) wait"):
        assert word in shown, word
    facts = json.loads(operator.runs("deadletters", "show", "1", "--json").out)
    assert (facts["payload"], facts["attempts"][0]["attempt"]) == ('{"id" : 1}', 1)
    assert "no dead letter 4711" in operator.runs("deadletters", "show", "4711", code=1).err


def test_replaying_twice_replays_once(operator: Operator) -> None:
    operator.has_letters(count=3)
    assert "2 dead letter(s) replayed." in operator.runs("deadletters", "replay", "1", "2", "--reason", "mended").out
    again = operator.runs("deadletters", "replay", "2").out
    assert "0 dead letter(s) replayed." in again
    assert "was replayed already" in again
    assert (operator.states(), operator.waiting()) == (["replayed", "replayed", "waiting"], 2)
    assert "1 dead letter(s) replayed." in operator.runs("deadletters", "replay", "--all", "--rate", "1000").out
    assert operator.sql("SELECT headers FROM pgmq.q_loyalty LIMIT 1") == [({"replay": 1, "failures": 0},)]


def test_discarding_what_a_filter_finds_asks_first(operator: Operator) -> None:
    operator.has_letters(count=2)
    refused = operator.runs("deadletters", "discard", "--queue", "loyalty", code=1, stdin="n\n")
    assert "Discard 2 dead letter(s)?" in refused.out
    assert operator.states() == ["waiting", "waiting"]
    assert "1 dead letter(s) discarded." in operator.runs("deadletters", "discard", "1", "--reason", "a test").out
    assert "1 dead letter(s) discarded." in operator.runs("deadletters", "discard", "--key", "order:2", "--yes").out
    assert operator.states() == ["discarded", "discarded"]
    assert operator.sql("SELECT reason, resolved_by <> '' FROM dead_letters WHERE dead_letter_id = 1") == [
        ("a test", True)
    ]
    assert "discarded" in operator.runs("deadletters", "list", "--state", "all").out


def test_what_cannot_be_replayed_is_said_and_the_exit_status_tells(operator: Operator) -> None:
    operator.has_letters()
    operator.sql("DELETE FROM events")
    assert "queue.event_gone" in operator.runs("deadletters", "replay", "1", code=1).out
    assert "can be discarded, not replayed" in operator.runs("deadletters", "show", "1").out
    assert operator.states() == ["waiting"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("deadletters", "replay"), "name the ids, a filter such as --queue, or --all"),
        (("deadletters", "replay", "1", "--queue", "lab"), "ids or a filter, not both"),
        (("deadletters", "list", "--state", "odd"), "--state is waiting, replayed, discarded or all"),
        (("queues", "--watch", "--json"), "--watch is for people"),
    ],
)
def test_a_request_that_means_nothing_clear_is_refused(
    operator: Operator, arguments: tuple[str, ...], words: str
) -> None:
    assert words in operator.runs(*arguments, code=2).err


def test_an_interrupted_replay_leaves_whole_batches_and_is_resumed_by_running_it_again(operator: Operator) -> None:
    operator.has_letters(count=20)
    # One every hundred seconds: nobody waits for the second.
    with operator.starts("deadletters", "replay", "--all", "--rate", "0.01") as process:
        until(lambda: "replayed" in operator.states())
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "run the same command again" in said
    assert operator.waiting() == operator.states().count("replayed") == 1
    assert "19 dead letter(s) replayed." in operator.runs("deadletters", "replay", "--all", "--rate", "100000").out
    assert operator.waiting() == 20


def test_queues_are_shown_paused_and_resumed(operator: Operator) -> None:
    operator.has_letters(count=2)
    operator.runs("queues", "pause", "loyalty", "--reason", "to [see]")
    paused = operator.runs("queues", "pause", "all", "--shop", DOMAIN, "--reason", "a quarrel").out
    assert f"sellflow queues resume all --shop {DOMAIN}" in paused
    shown = operator.runs("queues").out
    for word in ("Followers", "the queue loyalty: to [see]", f"all queues, {DOMAIN} alone: a quarrel", "1 shop(s)"):
        assert word in shown, word
    facts = json.loads(operator.runs("queues", "--json").out)
    found = {each["queue"]: each for each in facts["queues"]}
    assert (found["loyalty"]["dead"], found["loyalty"]["paused"], found["shops"]["paused"]) == (2, True, False)
    assert found["loyalty"]["handled_per_second"] == 0.2
    assert [each["shop_domain"] for each in facts["pauses"]] == [None, DOMAIN]
    assert "Resumed: the queue loyalty." in operator.runs("queues", "resume", "loyalty").out
    assert "It was not paused: the queue loyalty." in operator.runs("queues", "resume", "loyalty").out
    operator.runs("queues", "resume", "all", "--shop", DOMAIN)
    assert operator.sql("SELECT 1 FROM pauses") == []
    assert "no queue 'lap'" in operator.runs("queues", "pause", "lap", "--reason", "x", code=1).err


def test_the_live_table_ends_with_ctrl_c_and_fits_a_narrow_terminal(operator: Operator) -> None:
    operator.env["COLUMNS"] = "44"
    looked = """
        SELECT 1 FROM pg_stat_activity
        WHERE application_name = 'sellflow command' AND query LIKE '%pauses p LEFT JOIN%' AND state = 'idle'
    """
    with operator.starts("queues", "--watch") as process:
        until(lambda: operator.sql(looked))
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert "loyalty" in said
    assert "…" not in said
    assert all(len(line) <= 44 for line in said.splitlines())


def test_an_orders_story_tells_of_its_dead_letters(operator: Operator) -> None:
    def story() -> str:
        told = operator.runs("explain", "order", "7").out
        return " ".join(told.replace("│", " ").split())

    operator.has_letters(first=7)
    assert (
        "Set aside after 1 attempt(s): not [ever]. When the cause is mended: sellflow deadletters replay 7" in story()
    )
    operator.runs("deadletters", "replay", "7", "--reason", "mended")
    assert "On its way: a message waits for a worker" in story()
    operator.sql("UPDATE dead_letters SET state = 'waiting'")
    operator.sql("DELETE FROM pgmq.q_loyalty")
    operator.runs("deadletters", "discard", "7", "--reason", "in vain")
    assert "No points: dead letter 7 of the queue loyalty was discarded" in story()
    assert "(in vain)" in story()


def test_an_age_is_told_in_its_largest_unit() -> None:
    assert [age(seconds) for seconds in (0, 59, 60, 7200, 200_000)] == ["0 s", "59 s", "1 min", "2 h", "2 d"]
