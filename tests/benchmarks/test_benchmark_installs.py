"""What is installed is locked and names no address; what servers leave on disk is read right."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.peers.install import HERE, packages_to_install, parse_version
from benchmarks.peers.postgres_server import is_open_to_all
from benchmarks.sellflow_side import Installation, parse_postmaster
from benchmarks.servers import ServerProcess, answers, free_port, plain_environment

SIMULATION = """NOTE: This is only a simulation!
Inst libjemalloc2 (5.3.0-1 Debian:12.15/oldstable [amd64])
Inst redis-server (5:7.0.15-1 Debian:12.15/oldstable [amd64])
Conf libjemalloc2 (5.3.0-1 Debian:12.15/oldstable [amd64])
"""


def test_only_what_apt_would_install_is_downloaded() -> None:
    assert packages_to_install(SIMULATION) == ["libjemalloc2", "redis-server"]


@pytest.mark.parametrize(("text", "version"), [("v22.12.0\n", (22, 12, 0)), ("20.1", (20, 1)), ("", ())])
def test_versions_are_compared_by_their_numbers(text: str, version: tuple[int, ...]) -> None:
    assert parse_version(text) == version


def test_the_lock_pins_every_package_by_digest_and_names_no_address() -> None:
    lock = json.loads((HERE / "package-lock.json").read_text())
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert packages
    assert all(package.get("integrity", "").startswith("sha512-") for package in packages.values())
    assert not any("resolved" in package for package in packages.values())


def test_a_postmaster_is_found_by_its_process_id_and_socket() -> None:
    text = "4242\n/data/postgres\n1790000000\n5432\n/run/socket\n\n  1234 5\nready   \n"
    assert parse_postmaster(text) == (4242, Path("/run/socket"))


@pytest.mark.parametrize("text", ["", "4242\n/data/postgres\n", "1\n2\n3\n4\n\n"])
def test_a_postmaster_that_is_still_writing_its_file_is_not_found(text: str) -> None:
    assert parse_postmaster(text) is None


def test_an_installation_has_ports_and_data_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SELLFLOW_DATABASE_SESSION_URL", "postgresql://elsewhere/production")
    installation = Installation(tmp_path)
    environment = installation.environment
    assert "SELLFLOW_DATABASE_SESSION_URL" not in environment
    assert environment["SELLFLOW_DATA_DIR"] == str(tmp_path / "data")
    assert installation.web_port != installation.simulator_port
    with pytest.raises(BenchmarkError, match="no embedded Postgres"):
        _ = installation.address


def test_a_folder_behind_a_closed_one_is_not_open_to_all(tmp_path: Path) -> None:
    inner = tmp_path / "closed" / "open"
    inner.mkdir(parents=True)
    inner.parent.chmod(0o700)
    assert not is_open_to_all(inner)
    assert is_open_to_all(Path("/"))


def test_a_server_that_ends_instead_of_answering_is_told_with_its_last_words(tmp_path: Path) -> None:
    server = ServerProcess(
        ["/bin/sh", "-c", "echo no room; exit 3"],
        environment=plain_environment(),
        log=tmp_path / "log",
        cwd=tmp_path,
    )
    with pytest.raises(BenchmarkError, match=r"ended with 3:\nno room"):
        server.wait_until_answering(free_port(), "/")
    server.stop()


def test_nobody_answers_on_a_free_port() -> None:
    assert not answers(free_port(), "/")
