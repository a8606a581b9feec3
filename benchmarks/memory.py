"""What a set of processes costs, read from /proc: proportional memory and processor time."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import psutil

PROC = Path("/proc")
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def process_tree(root: int) -> set[int]:
    """Return the ids of a process and of all its descendants."""
    try:
        return {root, *(child.pid for child in psutil.Process(root).children(recursive=True))}
    except psutil.NoSuchProcess:
        return set()


def proportional_bytes(pids: Iterable[int]) -> int:
    """Return the sum of the processes' proportional set sizes: shared pages count once over all who share them."""
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
    """Return user and system ticks from the text of `stat`, those of buried children included.

    The second field is the program's name in parentheses and may itself hold spaces and parentheses.
    """
    fields = stat.rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15])


def _read(pid: int, name: str) -> str:
    """Return a file of /proc, or nothing when the process has ended."""
    try:
        return (PROC / str(pid) / name).read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
