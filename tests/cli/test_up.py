"""`sellflow up`, from its start to Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from sellflow.postgres.embedded import EmbeddedPostgres
from tests.cli.commands import environment, free_port, sellflow


class Up:
    """A running `sellflow up`; everything it and its roles say is one stream."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.said = ""

    def wait_for(self, words: str) -> None:
        """Read what it says until `words` were said."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said += line
            if words in line:
                return
        raise AssertionError(f"it ended and never said {words!r}:\n{self.said}")

    def children(self) -> list[int]:
        """Return the ids of its roles' processes in the order of their start."""
        listed = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True, check=True)
        return sorted(int(pid) for pid in listed.stdout.split())


@contextmanager
def up(env: dict[str, str]) -> Iterator[Up]:
    command = [sys.executable, "-m", "sellflow", "up"]
    with subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as process:
        try:
            yield Up(process)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(30)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def is_gone_within(seconds: float, pid: int) -> bool:
    """Say whether a process that said goodbye is gone soon: its parent, not ours, has to take note of it."""
    deadline = time.monotonic() + seconds
    while is_alive(pid) and time.monotonic() < deadline:
        os.sched_yield()
    return not is_alive(pid)


def test_everything_runs_comes_back_and_stops(folder: Path) -> None:
    data_dir = folder / "up"
    web_port, simulator_port = free_port(), free_port()
    env = environment(data_dir, web_port=web_port, simulator_port=simulator_port)
    web = httpx.Client(base_url=f"http://127.0.0.1:{web_port}", trust_env=False, timeout=20)
    with web, up(env) as running:
        running.wait_for("Sellflow is ready")
        assert web.get("/readyz").json() == {"status": "ready"}

        # A second one names what is in its way, and leaves the first alone.
        second = sellflow("up", env=env)
        assert second.code == 2
        assert f"port {web_port} on 127.0.0.1 is taken" in second.err
        assert "SELLFLOW_WEB_PORT" in second.err
        simulator_taken = sellflow("up", env=env | {"SELLFLOW_WEB_PORT": str(free_port())})
        assert (simulator_taken.code, f"port {simulator_port}" in simulator_taken.err) == (2, True)
        assert "SELLFLOW_SIMULATOR_PORT" in simulator_taken.err

        # A role that is killed comes back; whoever asked meanwhile is answered then.
        first_web, *others = running.children()
        os.kill(first_web, signal.SIGKILL)
        running.wait_for("up.role_died")
        assert web.get("/readyz").json() == {"status": "ready"}
        *others_after, second_web = running.children()
        assert others_after == others
        assert second_web != first_web

        roles = running.children()
        postmaster = int((EmbeddedPostgres(data_dir).cluster / "postmaster.pid").read_text().splitlines()[0])
        assert is_alive(postmaster)
        os.killpg(running.process.pid, signal.SIGINT)  # as Ctrl-C does
        assert running.process.wait(30) == 0
        running.wait_for("Stopping")
    assert not [pid for pid in roles if is_alive(pid)]
    assert not EmbeddedPostgres(data_dir).is_running()
    assert is_gone_within(5, postmaster)
    assert "Traceback" not in running.said
    assert re.search(r"Sellflow is ready after \d", running.said)


def test_stopping_while_it_starts_leaves_nothing_behind(folder: Path) -> None:
    data_dir = folder / "up-stopped"
    env = environment(data_dir, web_port=free_port(), simulator_port=free_port())
    with up(env) as running:
        running.wait_for("Postgres")
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(30) == 0
    assert not EmbeddedPostgres(data_dir).is_running()
