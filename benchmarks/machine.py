"""What machine a figure was measured on."""

from __future__ import annotations

import os
import platform


def machine_versions() -> dict[str, str]:
    """Name the kernel, the processors and Python."""
    return {
        "kernel": platform.release(),
        "processors": str(os.cpu_count()),
        "architecture": platform.machine(),
        "python": platform.python_version(),
    }
