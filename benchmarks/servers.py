"""Server processes under test: started on a free port, waited for until they answer, and stopped."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.errors import BenchmarkError
from benchmarks.http1 import parse_answer

HOST = "127.0.0.1"
STARTING = 60.0
STOPPING = 30.0
LOOK_EVERY = 0.005


class ServerProcess:
    """One process, with its output in a log file."""

    def __init__(self, command: Sequence[str], *, environment: Mapping[str, str], log: Path, cwd: Path) -> None:
        self._log = log
        self._name = Path(command[0]).name
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                list(command),
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                start_new_session=True,
            )
        self.started = time.perf_counter()

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    def wait_until_answering(self, port: int, path: str, *, seconds: float = STARTING) -> float:
        """Wait until `GET path` answers 200 and return the seconds since the process was started.

        Raises
        ------
        BenchmarkError
            If the process ends or the time runs out first, with the end of its log.
        """
        while not answers(port, path):
            if self.process.poll() is not None:
                raise BenchmarkError(f"{self._name} ended with {self.process.returncode}:\n{self.end_of_log()}")
            if time.perf_counter() - self.started > seconds:
                raise BenchmarkError(f"{self._name} did not answer {path} in {seconds:.0f} s:\n{self.end_of_log()}")
            time.sleep(LOOK_EVERY)
        return time.perf_counter() - self.started

    def end_of_log(self) -> str:
        """Return the last lines that the process wrote."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-15:])

    def stop(self) -> None:
        """Ask the process to end, then make it."""
        if self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOPPING)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def answers(port: int, path: str) -> bool:
    """Say whether `GET path` is answered with 200."""
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def ask_raw(port: int, request: bytes) -> int:
    """Send a rendered request on a connection of its own and return the status of the answer."""
    with socket.create_connection((HOST, port), timeout=10) as connection:
        connection.sendall(request)
        received = b""
        while (answer := parse_answer(received)) is None:
            piece = connection.recv(65536)
            if not piece:
                raise BenchmarkError(f"the server on port {port} closed the connection instead of answering")
            received += piece
    return answer.status


def free_port() -> int:
    """Return a port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def plain_environment(**additions: str) -> dict[str, str]:
    """Return this process's environment without anybody's SELLFLOW_ settings, and with `additions`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SELLFLOW_")}
    return kept | additions
