"""A Redis that writes every change to its log before it answers, on a socket in a folder of its own."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

from benchmarks.errors import BenchmarkError
from benchmarks.peers.install import redis_program
from benchmarks.servers import STARTING, ServerProcess, plain_environment


class RedisServer:
    """One server and its data; what it holds survives a stop and the next start."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.socket = folder / "redis.sock"
        self._process: ServerProcess | None = None

    def start(self) -> None:
        """Start the server and wait until it has read its log."""
        self._folder.mkdir(exist_ok=True)
        program, additions = redis_program("redis-server")
        # fmt: off
        command = [
            str(program), "--port", "0", "--unixsocket", str(self.socket), "--dir", str(self._folder),
            "--appendonly", "yes", "--appendfsync", "always", "--save", "", "--daemonize", "no",
        ]
        # fmt: on
        environment = plain_environment(**additions)
        self._process = ServerProcess(
            command, environment=environment, log=self._folder / "redis.log", cwd=self._folder
        )
        self._wait(self._process)

    @property
    def pid(self) -> int:
        """The process id; 0 while it does not run."""
        return self._process.pid if self._process else 0

    def stop(self) -> None:
        """Stop the server."""
        if self._process is not None:
            self._process.stop()

    def ask(self, *words: str) -> str:
        """Return what `redis-cli` prints for a command: one value a line."""
        program, additions = redis_program("redis-cli")
        command = [str(program), "-s", str(self.socket), "--raw", *words]
        done = subprocess.run(command, env=plain_environment(**additions), capture_output=True, text=True, check=False)
        return done.stdout.rstrip("\n")

    def version(self) -> str:
        """Return the server's version."""
        lines = self.ask("INFO", "server").splitlines()
        return next((line.partition(":")[2].strip() for line in lines if line.startswith("redis_version")), "")

    def discard(self) -> None:
        """Stop the server and remove its data."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _wait(self, process: ServerProcess) -> None:
        while self.ask("PING") != "PONG":
            if process.process.poll() is not None or time.perf_counter() - process.started > STARTING:
                raise BenchmarkError(f"Redis did not start:\n{process.end_of_log()}")
            time.sleep(0.02)
