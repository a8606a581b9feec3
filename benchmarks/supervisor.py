"""Keeps server processes running as an orchestrator would: what ends is started again."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Mapping

from benchmarks.servers import ServerProcess

LOOK_EVERY = 0.1
#: Seconds from an end to the next start.
RESTART_AFTER = 0.5


class Supervisor:
    """Processes by name, each with what starts it; `kills` counts those that were killed here."""

    def __init__(self, starts: Mapping[str, Callable[[], ServerProcess]]) -> None:
        self._starts = dict(starts)
        self._running: dict[str, ServerProcess] = {}
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.kills = 0
        self.restarts = 0

    def start(self) -> None:
        """Start every process and begin to watch."""
        self._running = {name: start() for name, start in self._starts.items()}
        self._thread.start()

    def kill(self, name: str) -> bool:
        """End a process with SIGKILL; say whether it was running."""
        with self._lock:
            process = self._running[name].process
            if process.poll() is not None:
                return False
            os.kill(process.pid, signal.SIGKILL)
            self.kills += 1
            return True

    def stop(self) -> None:
        """Stop watching, then every process."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        for process in self._running.values():
            process.stop()

    def _watch(self) -> None:
        while not self._stopping.wait(LOOK_EVERY):
            for name, process in list(self._running.items()):
                if process.process.poll() is None or self._stopping.wait(RESTART_AFTER):
                    continue
                with self._lock:
                    self._running[name] = self._starts[name]()
                    self.restarts += 1
