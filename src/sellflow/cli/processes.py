"""Child processes of `sellflow up`: forked from one warm parent, started again when they fall over.

Forking after the imports shares their pages between the roles: four roles cost little more memory than one.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType

import structlog

log = structlog.get_logger(__name__)

PR_SET_PDEATHSIG = 1
MOST_RESTARTS = 5  # within RESTART_WINDOW seconds; more means that starting again does not help
RESTART_WINDOW = 60.0
STOP_TIMEOUT = 25.0


class StopRequestedError(Exception):
    """SIGINT or SIGTERM arrived."""


@dataclass
class Child:
    """A role in a process of its own."""

    name: str
    main: Callable[[], None]
    pid: int = 0
    starts: deque[float] = field(default_factory=lambda: deque(maxlen=MOST_RESTARTS))


STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
LOOK_EVERY = 0.2  # seconds

#: The signals that arrived. Where an exception cannot leave (a finalizer, a hook), Python prints it and goes on: what
#: was raised there is not lost, because `watch` looks here.
_requests: list[int] = []


def stop_on_signals() -> None:
    """Make the first SIGINT or SIGTERM raise StopRequestedError in the main thread; impatience changes nothing."""

    def request(number: int, _frame: FrameType | None) -> None:
        _requests.append(number)
        if len(_requests) == 1:
            raise StopRequestedError

    for number in STOP_SIGNALS:
        signal.signal(number, request)


class Supervisor:
    """Keeps children running until it is told to stop them, in the reverse order of their start."""

    def __init__(self) -> None:
        self._children: list[Child] = []

    def start(self, name: str, main: Callable[[], None]) -> None:
        """Fork a child that runs `main`."""
        child = Child(name, main)
        self._children.append(child)
        self._fork(child)

    def watch(self) -> None:
        """Start children that died again; return when one keeps dying.

        Raises
        ------
        StopRequestedError
            If SIGINT or SIGTERM arrives, or arrived unnoticed before.
        """
        while True:
            pid, status = self._next_death()
            child = next((each for each in self._children if each.pid == pid), None)
            if child is None:
                continue
            child.pid = 0
            now = time.monotonic()
            log.error("up.role_died", role=child.name, status=os.waitstatus_to_exitcode(status))
            if len(child.starts) == MOST_RESTARTS and now - child.starts[0] < RESTART_WINDOW:
                log.error("up.gave_up", role=child.name, starts=MOST_RESTARTS, seconds=RESTART_WINDOW)
                return
            time.sleep(0.5)
            self._fork(child)

    @staticmethod
    def _next_death() -> tuple[int, int]:
        """Wait for a child to die, by looking: a signal just before a wait without end would not interrupt it."""
        while True:
            if _requests:
                raise StopRequestedError
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid:
                return pid, status
            time.sleep(LOOK_EVERY)

    def stop(self) -> None:
        """Ask every child to finish, the last started first, and end those that do not."""
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # impatience must not leave half of it running
        for child in reversed(self._children):
            if child.pid:
                os.kill(child.pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT
        while any(child.pid for child in self._children):
            self._reap()
            if time.monotonic() > deadline:
                for child in self._children:
                    if child.pid:
                        log.error("up.role_killed", role=child.name)
                        os.kill(child.pid, signal.SIGKILL)
            time.sleep(0.02)

    def _reap(self) -> None:
        for child in self._children:
            if child.pid and os.waitpid(child.pid, os.WNOHANG)[0]:
                child.pid = 0

    def _fork(self, child: Child) -> None:
        child.starts.append(time.monotonic())
        sys.stdout.flush()
        sys.stderr.flush()
        gc.freeze()
        # A request in the middle of this would leave a child that nobody knows of.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        pid = os.fork()
        if pid:
            child.pid = pid
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
            return
        status = 1
        try:
            _become_child()
            child.main()
            status = 0
        except BaseException:
            log.exception("up.role_failed", role=child.name)
        finally:
            os._exit(status)


def _become_child() -> None:
    """Leave the terminal's process group, so that Ctrl-C reaches the parent alone; and end when the parent does."""
    os.setpgid(0, 0)
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
