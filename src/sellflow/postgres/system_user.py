"""Which operating-system user runs the embedded server, and what that user can reach.

Postgres refuses to run as root. When Sellflow is started by root, the server runs as the system user `sellflow`
instead, and everything it needs must be reachable for that user *without* loosening the mode of any folder that
is not ours: a home folder with mode 0700 stays as it is, and data and binaries then go below /var/lib/sellflow.
"""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from sellflow.errors import ConfigurationError

SYSTEM_USER = "sellflow"
SHARED_STATE = Path("/var/lib/sellflow")


@dataclass(frozen=True)
class ServerUser:
    """The user a server process runs as; `switch` says whether that is another user than ours."""

    uid: int
    gid: int
    switch: bool


def server_user() -> ServerUser:
    """Return the user to run Postgres as, creating the system user when root has none yet."""
    if os.geteuid() != 0:
        return ServerUser(os.geteuid(), os.getegid(), switch=False)
    try:
        entry = pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        entry = _create_system_user()
    return ServerUser(entry.pw_uid, entry.pw_gid, switch=True)


def _create_system_user() -> pwd.struct_passwd:
    command = [
        "useradd",
        "--system",
        "--user-group",
        "--no-create-home",
        "--shell",
        "/usr/sbin/nologin",
        SYSTEM_USER,
    ]
    try:
        # Two commands may start at once: the loser's complaint that the user exists is no error.
        subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603
        return pwd.getpwnam(SYSTEM_USER)
    except (OSError, KeyError) as error:
        raise ConfigurationError(
            f"Postgres cannot run as root, and the system user {SYSTEM_USER!r} could not be created with useradd: "
            "create it, run Sellflow as an ordinary user, or set SELLFLOW_DATABASE_SESSION_URL to a server of yours"
        ) from error


def is_reachable(path: Path, user: ServerUser) -> bool:
    """Say whether `user` may enter every folder on the way to `path`, and `path` itself where it is a folder."""
    resolved = path.resolve()
    folders = [*resolved.parents, *([resolved] if resolved.is_dir() else [])]
    return all(_may_enter(folder.stat(), user) for folder in folders if folder.exists())


def _may_enter(status: os.stat_result, user: ServerUser) -> bool:
    if status.st_uid == user.uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == user.gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def reachable_folder(wanted: Path, user: ServerUser) -> Path:
    """Return `wanted`, or its stand-in below /var/lib/sellflow when `user` could not get to it."""
    if not user.switch or is_reachable(wanted, user):
        return wanted
    name = f"{wanted.name}-{sha256(str(wanted).encode()).hexdigest()[:12]}"
    return SHARED_STATE / name


def make_shared_state() -> None:
    """Make /var/lib/sellflow where it is missing, for everybody to pass through whatever the umask says."""
    if not SHARED_STATE.exists():
        SHARED_STATE.mkdir(parents=True, exist_ok=True)
        SHARED_STATE.chmod(0o755)


def reachable_binaries(installed: Path, user: ServerUser) -> Path:
    """Return the folder of Postgres's programs, copied below /var/lib/sellflow when `user` could not run them.

    `installed` is the `bin` folder inside a complete installation (bin, lib, share side by side). A wheel keeps
    the libraries that it brings along in a folder beside its package, PACKAGE.libs, and its programs look for
    them by the way from one to the other: both are copied, side by side as they were.
    """
    root, package = installed.parent, installed.parent.parent
    libraries = package.with_name(f"{package.name}.libs")
    # A distribution's own Postgres keeps `share` elsewhere, and in reach.
    needed = [path for path in (installed / "postgres", root / "lib", root / "share", libraries) if path.exists()]
    if not user.switch or all(is_reachable(path, user) and _is_world_readable(path) for path in needed):
        return installed
    version = sha256(f"{root}:{(installed / 'postgres').stat().st_mtime_ns}".encode()).hexdigest()[:12]
    copy = SHARED_STATE / f"binaries-{version}"
    if not copy.exists():
        make_shared_state()
        partial = copy.with_name(f"{copy.name}.{os.getpid()}")
        shutil.copytree(root, partial / package.name / root.name, symlinks=True)
        if libraries.is_dir():
            shutil.copytree(libraries, partial / libraries.name, symlinks=True)
        _make_world_readable(partial)
        try:
            partial.rename(copy)
        except OSError:  # another command finished the same copy first
            shutil.rmtree(partial)
    return copy / package.name / root.name / "bin"


def _is_world_readable(path: Path) -> bool:
    return bool(path.stat().st_mode & stat.S_IROTH)


def _make_world_readable(tree: Path) -> None:
    for path in [tree, *tree.rglob("*")]:
        if not path.is_symlink():
            executable = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
            path.chmod(0o755 if executable else 0o644)
