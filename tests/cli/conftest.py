"""An installation to run commands on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sellflow.postgres.embedded import EmbeddedPostgres
from tests.cli.commands import FIRST, CommandLine, Installation, logging_undone
from tests.conftest import FAST


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[CommandLine]:
    with logging_undone():
        yield CommandLine(monkeypatch, capsys)


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[tuple[Path, str]]:
    """Keep a server up between the commands: each of them would start and stop it."""
    with EmbeddedPostgres(folder / "commands", extra=FAST).running() as url:
        yield folder / "commands", url


@pytest.fixture
def installation(server: tuple[Path, str], line: CommandLine) -> Installation:
    """Return an installation with one app and one shop."""
    made = Installation(line, *server)
    if "acme.myshopify.com" not in made.does("shops", "list"):
        made.does("apps", "add", "acme", "--client-id", "client-acme", "--secret-stdin", stdin=f"{FIRST}\n")
        made.does("shops", "add", "acme.myshopify.com", "--app", "acme", "--points-per-unit", "2.5")
    return made
