"""The embedded server: who starts it, who stops it, and what it leaves alone."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from sellflow.errors import ConfigurationError, DatabaseUnavailableError
from sellflow.postgres import system_user
from sellflow.postgres.embedded import SUPERUSER, EmbeddedPostgres, packaged_binaries
from tests.conftest import FAST

IS_ROOT = os.geteuid() == 0

#: Uses the server until its standard input ends.
USER_OF_A_SERVER = """
import sys
from pathlib import Path
from sellflow.postgres.embedded import EmbeddedPostgres
with EmbeddedPostgres(Path(sys.argv[1])).running() as url:
    print(url, flush=True)
    sys.stdin.read()
"""


def embedded(data_dir: Path, *, binaries: Path | None = None) -> EmbeddedPostgres:
    return EmbeddedPostgres(data_dir, binaries=binaries, extra=FAST)


def ask(url: str, statement: str) -> object:
    with psycopg.connect(url, user=SUPERUSER, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


@contextmanager
def another_user(data_dir: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run another process that uses the server; yield it with the address that it was given."""
    command = [sys.executable, "-c", USER_OF_A_SERVER, str(data_dir)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()


def modes(path: Path) -> dict[Path, int]:
    """Return the mode of every folder above `path`."""
    return {folder: stat.S_IMODE(folder.stat().st_mode) for folder in path.resolve().parents}


@pytest.fixture(scope="module")
def data_dir(folder: Path) -> Path:
    """Return a data folder whose server was started once and stopped again; every test leaves it stopped."""
    path = folder / "home"
    with embedded(path).running():
        pass
    return path


@pytest.fixture
def shared_state(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a stand-in for /var/lib/sellflow that does not exist yet."""
    path = folder / f"shared-{os.urandom(4).hex()}"
    monkeypatch.setattr(system_user, "SHARED_STATE", path)
    return path


def test_the_first_user_starts_it_and_the_last_one_stops_it(data_dir: Path) -> None:
    first, second = embedded(data_dir), embedded(data_dir)
    assert not first.is_running()
    with first.running() as url:
        with second.running() as joined:
            assert joined == url
            started = ask(url, "SELECT pg_postmaster_start_time()")
        assert ask(url, "SELECT pg_postmaster_start_time()") == started
    assert not first.is_running()


def test_the_one_who_started_it_may_leave_before_the_one_who_joined(data_dir: Path) -> None:
    with another_user(data_dir) as (starter, url), embedded(data_dir).running() as joined:
        assert starter.communicate("", timeout=30)[1] is None
        assert starter.returncode == 0
        assert joined == url
        assert ask(joined, "SELECT 1") == 1
    assert not embedded(data_dir).is_running()


def test_data_survive_a_restart(data_dir: Path) -> None:
    with embedded(data_dir).running() as url:
        ask(url, "CREATE TABLE kept AS SELECT 42 AS answer")
        first_start = ask(url, "SELECT pg_postmaster_start_time()")
    with embedded(data_dir).running() as url:
        assert ask(url, "SELECT pg_postmaster_start_time()") != first_start
        assert ask(url, "SELECT answer FROM kept") == 42


def test_it_survives_the_death_of_its_user_and_is_stopped_by_the_next_one(data_dir: Path) -> None:
    server = embedded(data_dir)
    with another_user(data_dir) as (user, url):
        ask(url, "CREATE TABLE before_the_kill ()")
        user.kill()
        user.wait()
    assert server.is_running()
    with server.running() as joined:
        assert ask(joined, "SELECT to_regclass('before_the_kill')") == "before_the_kill"
    assert not server.is_running()


def test_it_is_reached_by_a_socket_in_a_folder_that_only_its_user_may_enter(data_dir: Path) -> None:
    with embedded(data_dir).running() as url:
        assert ask(url, "SHOW listen_addresses") == ""
        socket_dir = Path(str(ask(url, "SHOW unix_socket_directories")))
    assert stat.S_IMODE(socket_dir.stat().st_mode) == 0o700
    assert socket_dir.stat().st_uid == system_user.server_user().uid


def test_a_data_folder_with_a_long_path_works(folder: Path) -> None:
    long = folder / ("long-" * 20) / ("path-" * 20) / "data"
    server = embedded(long)
    with server.running() as url:
        assert str(long) not in url
        assert ask(url, "SELECT 1") == 1
    assert not server.is_running()
    socket_dir = server._socket_dir
    assert stat.S_IMODE(socket_dir.stat().st_mode) == 0o700
    socket_dir.rmdir()


def test_a_data_folder_that_cannot_be_written_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(ConfigurationError, match=r"SELLFLOW_DATA_DIR: .* cannot be written"),
        embedded(tmp_path / "file" / "data").running(),
    ):
        raise AssertionError("it cannot run there")


def test_a_server_that_does_not_start_shows_the_end_of_its_log(data_dir: Path) -> None:
    broken = EmbeddedPostgres(data_dir, extra={"shared_buffers": "nonsense"})
    with (
        pytest.raises(DatabaseUnavailableError, match='invalid value for parameter "shared_buffers"'),
        broken.running(),
    ):
        raise AssertionError("it cannot run like this")
    with embedded(data_dir).running() as url:
        assert ask(url, "SELECT 1") == 1


def test_a_private_folder_keeps_its_mode(folder: Path, shared_state: Path) -> None:
    private = folder / "private"
    private.mkdir(mode=0o700)
    data = private / "checkout" / ".sellflow"
    data.parent.mkdir()
    before = modes(data)
    assert before[private] == 0o700
    server = embedded(data)
    with server.running() as url:
        assert ask(url, "SELECT 1") == 1
        where = Path(str(ask(url, "SHOW data_directory")))
    assert modes(data) == before
    # Root's server runs as another user, who cannot come in here; anybody else's runs as themselves.
    assert where.parent == (shared_state if IS_ROOT else data)
    assert shared_state.exists() == IS_ROOT


def test_root_keeps_data_of_different_folders_apart(folder: Path) -> None:
    user = system_user.ServerUser(uid=12345, gid=12345, switch=True)
    private = folder / "apart"
    private.mkdir(mode=0o700)
    one = system_user.reachable_folder(private / "one" / ".sellflow" / "postgres", user)
    two = system_user.reachable_folder(private / "two" / ".sellflow" / "postgres", user)
    assert one != two
    assert one.parent == two.parent == system_user.SHARED_STATE
    open_to_all = folder / "open" / "postgres"
    assert system_user.reachable_folder(open_to_all, user) == open_to_all


def test_binaries_in_a_private_folder_are_run_from_a_copy_that_works(folder: Path, shared_state: Path) -> None:
    package = packaged_binaries().parent.parent
    private = folder / "private-packages"
    private.mkdir(mode=0o700)
    shutil.copytree(packaged_binaries().parent, private / package.name / "pginstall18", symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    shutil.copytree(libraries, private / libraries.name, symlinks=True)
    installed = private / package.name / "pginstall18" / "bin"
    before = modes(installed)
    with embedded(folder / "home-of-a-copy", binaries=installed).running() as url:
        assert ask(url, "SELECT 1") == 1
    assert modes(installed) == before
    copies = [path for path in shared_state.iterdir() if path.name.startswith("binaries-")] if IS_ROOT else []
    assert len(copies) == IS_ROOT
    for copy in copies:
        assert (copy / libraries.name).is_dir()
        assert not [path for path in copy.rglob("*") if not path.is_symlink() and path.stat().st_mode & stat.S_IWOTH]


def test_the_shared_folder_can_be_passed_through_whatever_the_umask(shared_state: Path) -> None:
    before = os.umask(0o077)
    try:
        system_user.make_shared_state()
    finally:
        os.umask(before)
    assert stat.S_IMODE(shared_state.stat().st_mode) == 0o755
