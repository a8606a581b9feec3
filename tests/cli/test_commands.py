"""The commands around apps, shops, rules and tokens: what they do, and what they say to bad input."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path

import pytest

from sellflow.postgres.embedded import EmbeddedPostgres
from sellflow.postgres.revisions import newest_revision
from tests.cli.commands import FIRST, CommandLine, Installation, environment, sellflow
from tests.conftest import FAST

SECOND = "second-secret"


def test_migrating_twice_says_that_nothing_was_left_to_do(line: CommandLine, folder: Path) -> None:
    env = environment(folder / "migrated")
    first = line.run("migrate", env=env)
    second = line.run("migrate", env=env)
    assert (first.code, first.out) == (0, f"The database is brought to {newest_revision()}.\n")
    assert (second.code, second.out) == (0, f"The database is already at {newest_revision()}.\n")
    assert not EmbeddedPostgres(folder / "migrated").is_running(), "a command leaves no server behind"


def test_an_app_is_added_and_listed_without_its_secret(installation: Installation) -> None:
    listed = installation.does("apps", "list")
    assert "client-acme" in listed
    assert "/webhooks/shopify/acme" in listed
    assert FIRST not in listed


def test_an_app_that_is_known_keeps_its_secret(installation: Installation) -> None:
    added = installation.does("apps", "add", "keeps", "--secret-stdin", stdin=f"{FIRST}\n")
    assert "/webhooks/shopify/keeps" in added
    again = installation.does("apps", "add", "keeps", "--secret-stdin", stdin=f"{SECOND}\n")
    assert "kept its secret" in again
    assert installation.secrets_of("keeps") == (FIRST,)
    assert FIRST not in added + again


def test_a_secret_is_rotated_and_the_previous_one_forgotten(installation: Installation) -> None:
    installation.does("apps", "add", "rotating", "--secret-stdin", stdin=f"{FIRST}\n")
    rotated = installation.does("apps", "rotate", "rotating", "--secret-stdin", stdin=f"{SECOND}\n")
    assert "sellflow apps forget-previous rotating" in rotated
    assert SECOND not in rotated
    assert installation.secrets_of("rotating") == (SECOND, FIRST)
    installation.does("apps", "rotate", "rotating", "--secret-stdin", stdin=f"{SECOND}\n")
    assert installation.secrets_of("rotating") == (SECOND, FIRST), "the same secret again rotates nothing away"
    assert "current secret alone" in installation.does("apps", "forget-previous", "rotating")
    assert installation.secrets_of("rotating") == (SECOND,)


def test_a_shop_is_added_with_its_rule_and_listed(installation: Installation) -> None:
    listed = installation.does("shops", "list")
    assert "acme.myshopify.com" in listed
    assert "USD" in listed
    rule = "SELECT document #>> '{rules,0,points_per_unit}', document #>> '{rules,0,rounding}' FROM programs"
    assert ("2.5", "down") in installation.ask(rule)


def test_a_new_earning_rule_is_a_new_version(installation: Installation) -> None:
    installation.does("shops", "add", "ruled.myshopify.com", "--app", "acme")
    arguments = ("earning-rule", "ruled.myshopify.com", "--points-per-unit", "3", "--rounding", "half_up")
    assert installation.does(*arguments).startswith("Version 2 is in force: 3")


def test_a_token_stands_alone_on_standard_output(installation: Installation) -> None:
    header, claims, signature = installation.does("token", "acme.myshopify.com", "207119551").strip().split(".")
    decoded = [json.loads(base64.urlsafe_b64decode(part + "==")) for part in (header, claims)]
    assert decoded[0]["alg"] == "EdDSA"
    assert decoded[1]["sub"] == "207119551"
    assert signature


@pytest.mark.parametrize(
    ("arguments", "stdin", "message"),
    [
        (("apps", "add", "Not A Handle", "--secret-stdin"), "secret\n", "'Not A Handle' was refused"),
        (("apps", "add", "other", "--secret-stdin"), "\n", "the client secret is empty"),
        (("apps", "add", "other", "--client-id", "client-acme", "--secret-stdin"), "x\n", "belongs to another app"),
        (("shops", "add", "acme.example.com", "--app", "acme"), "", "must look like name.myshopify.com"),
        (("shops", "add", "b.myshopify.com", "--app", "acme", "--currency", "dollars"), "", "like USD"),
        (("shops", "add", "b.myshopify.com", "--app", "acme", "--points-per-unit", "-1"), "", "from 0 to 1000000"),
        (
            ("shops", "add", "b.myshopify.com", "--app", "acme", "--points-per-unit", "1e999999"),
            "",
            "from 0 to 1000000",
        ),
        (("earning-rule", "acme.myshopify.com", "--points-per-unit", "0.00001"), "", "up to 4 decimals"),
        (("earning-rule", "acme.myshopify.com", "--points-per-unit", "1", "--rounding", "odd"), "", "half_up"),
        (("token", "acme.myshopify.com", "0"), "", "Invalid value"),
        (("token", "acme.myshopify.com", "99999999999999999999"), "", "Invalid value"),
        (("restore", "/nonexistent/backup"), "", "there is no file /nonexistent/backup"),
        (("worker", "--queues", "loyalti"), "", "there is no queue loyalti"),
        (("jobs", "run", "prune"), "", "there is no job 'prune' (known: adopt_events"),
    ],
)
def test_bad_input_is_one_clear_message(
    installation: Installation, arguments: tuple[str, ...], stdin: str, message: str
) -> None:
    assert message in installation.refuses(*arguments, stdin=stdin)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("apps", "rotate", "nobody", "--secret-stdin"), "no app 'nobody' (known: acme"),
        (("apps", "forget-previous", "nobody"), "no app 'nobody' (known: acme"),
        (("shops", "add", "b.myshopify.com", "--app", "nobody"), "no app 'nobody' (known: acme"),
        (("token", "unknown.myshopify.com", "1"), "no shop 'unknown.myshopify.com'"),
        (("earning-rule", "unknown.myshopify.com", "--points-per-unit", "1"), "no shop 'unknown.myshopify.com'"),
        (("explain", "order", "1", "--shop", "unknown.myshopify.com"), "no shop 'unknown.myshopify.com'"),
    ],
)
def test_what_does_not_exist_is_named_with_what_does(
    installation: Installation, arguments: tuple[str, ...], message: str
) -> None:
    assert message in installation.refuses(*arguments, stdin="secret\n", code=1)


@pytest.mark.parametrize("order", ["#1001", "450789469", "'; DROP TABLE orders; --", "99999999999999999999999"])
def test_an_order_that_nobody_knows_is_explained_by_what_to_check(
    installation: Installation, line: CommandLine, order: str
) -> None:
    done = line.run("explain", "order", order, env=installation.env)
    assert done.code == 1
    assert order in done.out
    assert "No webhook about this order has arrived. Check the id" in done.out


def test_a_backup_is_written_once_and_not_restored_over_anything(installation: Installation, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    assert f"Wrote {file}" in installation.does("backup", str(file))
    assert "exists already" in installation.refuses("backup", str(file))
    assert "a backup is restored into an empty one" in installation.refuses("restore", str(file))


def test_a_backup_is_restored_into_another_data_folder(
    installation: Installation, line: CommandLine, folder: Path, tmp_path: Path
) -> None:
    installation.does("backup", str(tmp_path / "backup"))
    env = environment(folder / "restored")
    (folder / "restored").mkdir()
    shutil.copy2(folder / "commands" / "master.key", folder / "restored")
    with EmbeddedPostgres(folder / "restored", extra=FAST).running():
        restored = line.run("restore", str(tmp_path / "backup"), env=env)
        assert (restored.code, restored.out) == (0, f"Restored {tmp_path / 'backup'}.\n")
        assert "acme.myshopify.com" in line.run("shops", "list", env=env).out


def test_a_backup_without_its_master_key_is_read_and_says_what_it_needs(
    installation: Installation, line: CommandLine, folder: Path, tmp_path: Path
) -> None:
    assert f"{folder / 'commands' / 'master.key'} alone" in installation.does("backup", str(tmp_path / "backup"))
    env = environment(folder / "keyless")
    with EmbeddedPostgres(folder / "keyless", extra=FAST).running():
        restored = line.run("restore", str(tmp_path / "backup"), env=env)
        assert restored.code == 1
        assert "secrets.master_key_missing" in restored.err
        assert f"there is no file {folder / 'keyless' / 'master.key'}" in restored.err
        assert not (folder / "keyless" / "master.key").exists()
        shutil.copy2(folder / "commands" / "master.key", folder / "keyless")
        assert line.run("migrate", env=env).code == 0
        assert "acme" in line.run("apps", "list", env=env).out


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"web_port": "eighty"}, "SELLFLOW_WEB_PORT: "),
        ({"environment": "production"}, "SELLFLOW_DEMO_APP_SECRET is the published demo secret"),
        (
            {"database_session_url": "postgresql://owner:hush@db/sellflow"},
            "SELLFLOW_DATABASE_SESSION_URL: must not hold",
        ),
    ],
)
def test_a_refused_setting_is_one_clear_message(
    line: CommandLine, tmp_path: Path, settings: dict[str, str], message: str
) -> None:
    done = line.run("migrate", env=environment(tmp_path, **settings))
    assert done.code == 2
    assert message in done.err
    assert "hush" not in done.err


@pytest.mark.parametrize("command", [("migrate",), ("apps", "list"), ("backup", "file"), ("worker",)])
def test_a_database_that_is_away_is_one_clear_message(
    line: CommandLine, tmp_path: Path, command: tuple[str, ...]
) -> None:
    away = "postgresql:///sellflow?host=/nonexistent"
    done = line.run(*command, env=environment(tmp_path, database_session_url=away))
    assert done.code == 1
    assert "database.unavailable" in done.err


def test_a_person_is_shown_a_message_and_no_stack_trace(tmp_path: Path) -> None:
    done = sellflow("apps", "list", env=environment(tmp_path, web_port="eighty"))
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error configuration.invalid\nSELLFLOW_WEB_PORT: ")
    assert "Traceback" not in done.err


def test_topics_are_listed_with_who_declares_them_and_who_listens(line: CommandLine, folder: Path) -> None:
    env = environment(folder / "never-made")
    table = line.run("topics", env=env)
    assert "loyalty" in next(row for row in table.out.splitlines() if "shopify.orders.paid" in row)
    assert "nobody" in next(row for row in table.out.splitlines() if "loyalty.points.earned" in row)
    listed = {row["topic"]: row for row in json.loads(line.run("topics", "--json", env=env).out)}
    assert listed["shopify.orders.paid"]["meaning"] == "an order was paid for"
    assert listed["queue.dead_letter"]["declared_by"] == ["sellflow"]
    assert listed["shopify.app.uninstalled"]["queues"] == ["shops"]
    assert not (folder / "never-made").exists(), "no database is needed to know"


def test_a_service_that_is_not_there_is_named_with_its_setting(line: CommandLine, folder: Path) -> None:
    env = environment(folder / "never-made", services="no_such_service")
    refused = line.run("topics", env=env)
    assert refused.code == 2
    assert "SELLFLOW_SERVICES: no_such_service cannot be imported" in refused.err
