"""What a set of processes costs, read from /proc: proportional memory and processor time."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

PROC = Path("/proc")
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def process_tree(root: int) -> set[int]:
    """Return the ids of a process and of all its descendants; nothing when it has ended."""
    children: dict[int, list[int]] = defaultdict(list)
    for pid in (int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()):
        stat = _read(pid, "stat")
        if stat:
            children[parse_parent(stat)].append(pid)
    tree, found = set[int](), [root] if is_running(root) else []
    while found:
        pid = found.pop()
        tree.add(pid)
        found += children[pid]
    return tree


def is_running(pid: int) -> bool:
    """Say whether a process has this id."""
    return (PROC / str(pid)).exists()


def proportional_bytes(pids: Iterable[int]) -> int:
    """Return the sum of the proportional set sizes: a shared page counts once over all who share it."""
    return sum(parse_pss(text) for pid in pids if (text := _read(pid, "smaps_rollup")))


def processor_seconds(pids: Iterable[int]) -> float:
    """Return the processor time that the processes, and the children they have buried, used so far.

    With a parent in the set, a child that ends between two readings keeps its share: the parent inherits it.
    """
    return sum(parse_ticks(text) for pid in pids if (text := _read(pid, "stat"))) / TICKS_PER_SECOND


def parse_pss(smaps_rollup: str) -> int:
    """Return the proportional set size in bytes from the text of `smaps_rollup`."""
    for line in smaps_rollup.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise ValueError("no Pss line: is this /proc/PID/smaps_rollup of Linux 4.14 or newer?")


def parse_ticks(stat: str) -> int:
    """Return user and system ticks from the text of `stat`, those of buried children included."""
    return sum(int(field) for field in _fields_after_name(stat)[11:15])


def parse_parent(stat: str) -> int:
    """Return the id of the parent process from the text of `stat`."""
    return int(_fields_after_name(stat)[1])


def _fields_after_name(stat: str) -> list[str]:
    """Split what follows the second field, the program's name in parentheses.

    The name may itself hold spaces and parentheses.
    """
    return stat.rpartition(")")[2].split()


def _read(pid: int, name: str) -> str:
    """Return a file of /proc, or nothing when the process has ended."""
    try:
        return (PROC / str(pid) / name).read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def process_names(pids: Iterable[int]) -> dict[int, str]:
    """Return the programs' names by process id, without those that have ended."""
    names = {pid: _read(pid, "comm").strip() for pid in sorted(pids)}
    return {pid: name for pid, name in names.items() if name}
