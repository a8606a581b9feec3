"""The `sellflow` command, run the way a person runs it."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
import structlog

from sellflow.cli import main
from sellflow.postgres.database import Database, Login
from sellflow.postgres.embedded import SUPERUSER
from sellflow.secrets import build_vault
from sellflow.settings import load_settings
from sellflow.shops.store import find_app

#: The client secret of the app that an installation begins with.
FIRST = "first-secret"

#: Seconds that a test waits for another process at most.
PATIENCE = 80


def free_port() -> int:
    """Return a port that nothing listens on just now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


async def until(reached: Callable[[], Awaitable[object]]) -> None:
    """Look again and again until another process brought something about."""
    async with asyncio.timeout(PATIENCE):
        while not await reached():  # noqa: ASYNC110 - an event cannot be shared with it
            await asyncio.sleep(0.05)


def environment(data_dir: Path, **settings: object) -> dict[str, str]:
    """Return the environment of a command: nothing of ours but what is named here."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("SELLFLOW_", "PYTEST_"))}
    named = {f"SELLFLOW_{name.upper()}": str(value) for name, value in settings.items()}
    return own | named | {"SELLFLOW_DATA_DIR": str(data_dir), "COLUMNS": "200", "NO_COLOR": "1"}


@dataclass(frozen=True)
class Done:
    """What a command that ended said, and its exit status."""

    code: int
    out: str
    err: str


class CommandLine:
    """Runs commands inside this process, which spares each of them the start of an interpreter."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def run(self, *arguments: str, env: dict[str, str], stdin: str = "") -> Done:
        """Run a command to its end."""
        with self._monkeypatch.context() as patch:
            for name, value in env.items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["sellflow", *arguments])
            patch.setattr(sys, "stdin", io.StringIO(stdin))
            self._capsys.readouterr()
            with pytest.raises(SystemExit) as ended:
                main()
        code = ended.value.code
        return Done(code if isinstance(code, int) else 0, *self._capsys.readouterr())


class Installation:
    """A data folder with a running server, and the commands on it."""

    def __init__(self, line: CommandLine, data_dir: Path, url: str) -> None:
        self.line = line
        self.env = environment(data_dir)
        self.url = url

    def does(self, *arguments: str, stdin: str = "") -> str:
        """Run a command that succeeds and return what it answers."""
        done = self.line.run(*arguments, env=self.env, stdin=stdin)
        assert done.code == 0, done.err
        return done.out

    def refuses(self, *arguments: str, stdin: str = "", code: int = 2) -> str:
        """Run a command that fails with `code` and return its one message."""
        done = self.line.run(*arguments, env=self.env, stdin=stdin)
        assert (done.code, done.out) == (code, ""), done.out + done.err
        return done.err

    def ask(self, statement: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.url, user=SUPERUSER) as connection:
            return connection.execute(statement.encode()).fetchall()

    def secrets_of(self, handle: str) -> tuple[str, ...]:
        """Return the secrets of an app, the current one first."""

        async def opened() -> tuple[str, ...]:
            settings = load_settings(data_dir=self.env["SELLFLOW_DATA_DIR"], database_owner=SUPERUSER)
            owner = await Database(self.url, self.url, settings).connect(Login.OWNER, purpose="test")
            app = await find_app(owner, build_vault(settings), handle)
            await owner.close()
            return app.secrets

        return asyncio.run(opened())


@contextmanager
def logging_undone() -> Iterator[None]:
    """Undo what a command configures for its whole process."""
    root = logging.getLogger()
    level = root.level
    yield
    for handler in [each for each in root.handlers if type(each) is logging.StreamHandler]:
        root.removeHandler(handler)
    root.setLevel(level)
    structlog.reset_defaults()


def sellflow(*arguments: str, env: dict[str, str]) -> Done:
    """Run a command in a process of its own to its end."""
    done = subprocess.run(
        [sys.executable, "-m", "sellflow", *arguments],
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)
