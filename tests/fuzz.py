"""`make fuzz`: plays thousands of interleavings on their way to the ledger, as many as fit into the time.

A round has a seed of its own, so that the one that fails can be played again: `make fuzz SEED=…`.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import shutil
import tempfile
import time
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from sellflow.logs import configure_logging
from tests.conftest import cloned_database, running_server, settings_for
from tests.loyalty.interleavings import Plan, plans
from tests.loyalty.theatre import Theatre, theatre

PLANS_A_ROUND = 50


def main() -> None:
    """Play rounds until the time is up; a plan that ends wrong is shrunk, printed and fails the command."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0, help="begin no further round after this long")
    parser.add_argument("--seed", type=int, help="the first round's seed; drawn when left out")
    asked = parser.parse_args()
    first = secrets.randbelow(10**6) if asked.seed is None else asked.seed
    folder = Path(tempfile.mkdtemp(prefix="sellflow-fuzz-"))
    folder.chmod(0o711)
    configure_logging(settings_for(folder))
    try:
        with running_server(folder) as url:
            _play_rounds(url, folder, first, asked.seconds)
    finally:
        shutil.rmtree(folder)


def _play_rounds(url: str, folder: Path, first: int, seconds: float) -> None:
    started = time.monotonic()
    played = 0
    for number in count(first):
        try:
            played += _play_round(url, folder, number)
        except BaseException:
            _say(f"seed {number} ended early; play it again with: make fuzz SEED={number}")
            raise
        passed = time.monotonic() - started
        _say(f"seed {number} passed; {played:,} interleavings in {passed:.0f} of {seconds:.0f} s")
        if passed >= seconds:
            return


def _play_round(url: str, folder: Path, number: int) -> int:
    """Play the plans of one seed on a database of its own; return how many there were."""
    played = 0
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()

        async def build() -> Theatre:
            database = await stack.enter_async_context(cloned_database(url, settings_for(folder)))
            return await stack.enter_async_context(theatre(database))

        stage = runner.run(build())

        @seed(number)
        @settings(
            max_examples=PLANS_A_ROUND,
            database=None,
            deadline=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=[HealthCheck.too_slow],
        )
        @given(plan=plans())
        def play(plan: Plan) -> None:
            nonlocal played
            played += 1
            runner.run(stage.play(plan))

        try:
            play()
        finally:
            runner.run(stack.aclose())
    return played


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - a command's own output


if __name__ == "__main__":
    main()
