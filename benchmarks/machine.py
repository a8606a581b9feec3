"""What machine a figure was measured on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

MOUNTS = Path("/proc/self/mounts")


def machine_versions(folder: Path) -> dict[str, str]:
    """Name the kernel, the processors, Python, and the file system on which `folder` and so the data lie."""
    return {
        "kernel": platform.release(),
        "processors": str(os.cpu_count()),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "file_system": file_system(folder, MOUNTS.read_text()),
    }


def file_system(path: Path, mounts: str) -> str:
    """Return the type of the file system that holds `path`: that of the longest mount point above it."""
    mounted = [line.split()[1:3] for line in mounts.splitlines()]
    above = [(len(point), kind) for point, kind in mounted if path.resolve().is_relative_to(point)]
    return max(reversed(above), key=lambda each: each[0], default=(0, "unknown"))[1]
