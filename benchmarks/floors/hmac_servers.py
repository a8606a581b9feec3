"""The two servers that only check signatures: plain ASGI under uvicorn, and bare Node."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from importlib.metadata import version
from pathlib import Path

from benchmarks.peers.install import REPOSITORY, node, node_versions
from benchmarks.servers import ServerProcess, free_port, plain_environment

HERE = Path(__file__).parent


class HmacServer(ABC):
    """What both have in common."""

    name: str
    ceiling = 60_000

    def __init__(self, secret: str) -> None:
        self._secret = secret
        self._folder = Path()
        self._process: ServerProcess | None = None

    def prepare(self, folder: Path) -> None:
        """Remember where the log goes."""
        self._folder = folder

    def start(self) -> int:
        """Start the server and return its port, once it answers."""
        port = free_port()
        self._process = ServerProcess(
            self._command(port),
            environment=plain_environment(SECRET=self._secret, PORT=str(port), NODE_ENV="production"),
            log=self._folder / "server.log",
            cwd=REPOSITORY,
        )
        self._process.wait_until_answering(port, "/")
        return port

    def stop(self) -> None:
        """Stop the server."""
        if self._process is not None:
            self._process.stop()

    @abstractmethod
    def _command(self, port: int) -> list[str]:
        """Return the command that serves on `port`."""


class HmacAsgi(HmacServer):
    """uvicorn with uvloop and httptools."""

    name = "hmac_asgi"

    def versions(self) -> dict[str, str]:
        """Name the server's parts."""
        return {package: version(package) for package in ("uvicorn", "uvloop", "httptools")}

    def _command(self, port: int) -> list[str]:
        # fmt: off
        return [
            sys.executable, "-m", "uvicorn", "benchmarks.floors.hmac_app:app", "--port", str(port),
            "--loop", "uvloop", "--http", "httptools", "--lifespan", "off", "--no-access-log",
            "--log-level", "warning",
        ]
        # fmt: on


class HmacNode(HmacServer):
    """Node's own http module."""

    name = "hmac_node"

    def versions(self) -> dict[str, str]:
        """Name Node's version."""
        return node_versions()

    def _command(self, port: int) -> list[str]:
        return [str(node()), str(HERE / "hmac_node.mjs")]
