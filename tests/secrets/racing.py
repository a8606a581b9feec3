"""Processes that do the same thing in the same moment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

RACERS = 8

#: Forks: an interpreter for each would take its time, and they would hardly meet.
_FORKING = """
import json, multiprocessing, sys
start = multiprocessing.Barrier({racers})
results = multiprocessing.SimpleQueue()
children = [
    multiprocessing.get_context("fork").Process(target=lambda: results.put(act(start, *sys.argv[1:])))
    for _ in range({racers})
]
for child in children: child.start()
print(json.dumps([results.get() for _ in children]))
for child in children: child.join()
"""


def race(program: str, *arguments: str, env: Mapping[str, str] | None = None) -> list[Any]:
    """Call a program's `act(start, *arguments)` in eight processes and return their answers.

    Each calls `start.wait()` when it is ready, and goes on once all are.
    """
    command = [sys.executable, "-c", program + _FORKING.format(racers=RACERS), *arguments]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | (env or {}), timeout=60, check=True
    )
    answers: list[Any] = json.loads(done.stdout)
    return answers
