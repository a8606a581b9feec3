"""The supervisor of `sellflow up`: children come back, give up together, and end when they are told to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from sellflow.cli import processes

SUPERVISOR = """
import importlib.util, os, signal, sys
import structlog

# By its file: the package around it imports every command, which takes longer than all else here.
spec = importlib.util.spec_from_file_location("processes", sys.argv[2])
processes = sys.modules["processes"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(processes)

structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def wait(name):
    def main():
        say(name, os.getpid())
        signal.pause()
    return main

def stubborn():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    say("stubborn", os.getpid())
    while True:
        signal.pause()

def graceful(name):
    def main():
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        say(name, os.getpid())
        signal.sigwait([signal.SIGTERM])
        say(name, "finished")
    return main

def failing():
    say("failing", os.getpid())
    raise LookupError("it cannot work")

processes.stop_on_signals()
supervisor = processes.Supervisor()
try:
    exec(sys.argv[1])
    supervisor.watch()
    say("gave up")
except processes.StopRequestedError:
    say("stop requested")
supervisor.stop()
say("stopped")
"""


class Supervised:
    """A process with a supervisor in it, and what it and its children say."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def next_words(self) -> list[str]:
        assert self.process.stdout is not None
        return self.process.stdout.readline().split()

    def rest(self) -> list[str]:
        assert self.process.stdout is not None
        return self.process.stdout.read().splitlines()

    def stop(self) -> list[str]:
        self.process.send_signal(signal.SIGTERM)
        return self.rest()


@contextmanager
def supervising(script: str) -> Iterator[Supervised]:
    command = [sys.executable, "-c", SUPERVISOR, script, processes.__file__]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            yield Supervised(process)
        finally:
            process.kill()


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_child_that_dies_is_started_again() -> None:
    with supervising("supervisor.start('web', wait('web')); supervisor.start('worker', wait('worker'))") as up:
        pids = {name: int(pid) for name, pid in (up.next_words() for _ in range(2))}
        os.kill(pids["web"], signal.SIGKILL)
        name, again = up.next_words()
        assert name == "web"
        assert int(again) != pids["web"]
        assert is_alive(pids["worker"])
        assert up.stop() == ["stop requested", "stopped"]
        assert not is_alive(int(again))
        assert not is_alive(pids["worker"])


def test_a_child_that_keeps_dying_is_given_up_after_five_starts() -> None:
    with supervising("processes.time.sleep = lambda _: None; supervisor.start('failing', failing)") as up:
        said = up.rest()
        assert [line.split()[0] for line in said] == ["failing"] * 5 + ["gave", "stopped"]
        assert up.process.stderr is not None
        log = up.process.stderr.read()
    assert log.count("up.role_died") == 5
    assert "it cannot work" in log
    assert "up.gave_up" in log


def test_a_child_that_died_long_ago_is_not_held_against_it() -> None:
    script = """
processes.time.sleep = lambda _: None
clock = iter(range(0, 10_000, 100))  # each look at it, more than a window's sixth has passed
processes.time.monotonic = lambda: float(next(clock))
starts = []
original = supervisor._fork
def fork(child):
    starts.append(child)
    if len(starts) == 12:
        child.main = wait("patient")
    original(child)
supervisor._fork = fork
supervisor.start('failing', failing)
"""
    with supervising(script) as up:
        assert [up.next_words()[0] for _ in range(12)] == ["failing"] * 11 + ["patient"]


def test_a_child_that_gives_up_by_itself_is_started_again_though_it_did_not_fail() -> None:
    script = """
starts = []
original = supervisor._fork
def fork(child):
    starts.append(child)
    child.main = (lambda: say('done')) if len(starts) == 1 else wait('again')
    original(child)
supervisor._fork = fork
supervisor.start('web', failing)
"""
    with supervising(script) as up:
        assert up.next_words() == ["done"]
        assert up.next_words()[0] == "again"
        assert up.stop() == ["stop requested", "stopped"]


def test_children_finish_what_they_do_before_it_ends() -> None:
    with supervising("supervisor.start('web', graceful('web')); supervisor.start('worker', graceful('worker'))") as up:
        for _ in range(2):
            up.next_words()
        said = up.stop()
    assert said[0] == "stop requested"
    assert sorted(said[1:3]) == ["web finished", "worker finished"]
    assert said[3] == "stopped"


def test_a_request_in_the_middle_of_a_start_stops_that_child_too() -> None:
    script = """
os.register_at_fork(after_in_parent=lambda: os.kill(os.getpid(), signal.SIGTERM))
supervisor.start('web', graceful('web'))
say('not reached')
"""
    with supervising(script) as up:
        said = up.rest()
        assert up.process.stderr is not None
        assert up.process.stderr.read() == ""
    # The child may not have got as far as to say its name; but it is gone before the supervisor is.
    assert said[-1] == "stopped"
    assert "stop requested" in said
    assert "not reached" not in said


def test_a_request_that_python_could_not_raise_is_not_lost() -> None:
    script = """
class Closing:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
supervisor.start('web', graceful('web'))
Closing()
say('not raised')
"""
    with supervising(script) as up:
        said = up.rest()
        assert up.process.stderr is not None
        assert "Exception ignored" in up.process.stderr.read()
    assert "not raised" in said
    assert said[-1] == "stopped"


def test_a_child_that_ignores_the_request_is_killed_in_the_end() -> None:
    script = (
        "processes.STOP_TIMEOUT = 0.2; supervisor.start('stubborn', stubborn); supervisor.start('web', graceful('web'))"
    )
    with supervising(script) as up:
        pids = {int(up.next_words()[1]) for _ in range(2)}
        said = up.stop()
        assert up.process.stderr is not None
        log = up.process.stderr.read()
    assert said == ["stop requested", "web finished", "stopped"]
    assert log.count("up.role_killed") == 1
    assert not any(is_alive(pid) for pid in pids)


def test_impatience_while_it_stops_leaves_nothing_running() -> None:
    with supervising("processes.STOP_TIMEOUT = 0.5; supervisor.start('stubborn', stubborn)") as up:
        pid = int(up.next_words()[1])
        up.process.send_signal(signal.SIGINT)
        up.process.send_signal(signal.SIGINT)
        assert up.next_words() == ["stop", "requested"]
        up.process.send_signal(signal.SIGINT)
        up.process.send_signal(signal.SIGTERM)
        assert up.rest() == ["stopped"]
        assert up.process.wait(10) == 0
    assert not is_alive(pid)


def test_ctrl_c_reaches_the_parent_alone() -> None:
    with supervising("supervisor.start('web', wait('web'))") as up:
        pid = int(up.next_words()[1])
        os.killpg(up.process.pid, signal.SIGINT)  # as a terminal does
        assert os.getpgid(pid) != up.process.pid
        assert up.rest() == ["stop requested", "stopped"]


def test_children_end_when_their_parent_is_killed() -> None:
    with supervising("supervisor.start('web', graceful('web'))") as up:
        up.next_words()
        up.process.kill()
        # The pipe is at its end once the child, which holds it too, is gone.
        assert up.rest() == ["web finished"]
