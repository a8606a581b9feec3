"""`sellflow secrets`: what it shows, makes and refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands import FIRST, Installation


def status(installation: Installation) -> Any:  # noqa: ANN401 - any JSON
    return json.loads(installation.does("secrets", "status", "--json"))


def test_a_rotation_makes_a_key_and_the_former_one_is_dropped(installation: Installation) -> None:
    (before,) = status(installation)["master_keys"]
    old = before["use"]["master_key_id"]
    wrapped = before["use"]["data_keys"]
    assert (before["is_accessible"], before["use"]["is_current"], wrapped >= 1) == (True, True, True)

    rotated = json.loads(installation.does("secrets", "rotate", "--json"))
    assert (rotated["is_new"], rotated["rewrapped"], rotated["droppable"]) == (True, wrapped, [old])
    shown = installation.does("secrets", "status")
    assert f"{rotated['master_key_id']} (current)" in shown
    assert f"sellflow secrets drop {old}" in shown

    assert "current master key" in installation.refuses("secrets", "drop", rotated["master_key_id"], "--yes", code=1)
    assert installation.does("secrets", "drop", old, "--yes") == f"{old} is forgotten.\n"
    assert [key["use"]["master_key_id"] for key in status(installation)["master_keys"]] == [rotated["master_key_id"]]
    assert old not in key_file(installation).read_text()
    assert installation.secrets_of("acme") == (FIRST,)


def test_a_rotation_tells_people_what_to_do_next(installation: Installation) -> None:
    told = installation.does("secrets", "rotate")
    assert "was made" in told
    assert f"Copy {key_file(installation)} to where its copy is kept" in told
    assert "sellflow secrets drop " in told
    asked = installation.line.run("secrets", "drop", "whatever", env=installation.env, stdin="n\n")
    assert asked.code != 0
    assert "Backups made before the rotation" in asked.out + asked.err


def key_file(installation: Installation) -> Path:
    return Path(installation.env["SELLFLOW_DATA_DIR"]) / "master.key"


@pytest.mark.parametrize("command", [("secrets", "status"), ("apps", "list"), ("token", "acme.myshopify.com", "7")])
def test_a_key_file_that_others_may_read_is_one_clear_message(
    installation: Installation, command: tuple[str, ...]
) -> None:
    file = key_file(installation)
    file.chmod(0o644)
    try:
        refused = installation.refuses(*command, code=2)
    finally:
        file.chmod(0o600)
    assert "secrets.key_file" in refused
    assert f"chmod 600 {file}" in refused
