"""Eight processes that want a token at once, and one that is killed while Shopify answers it."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sellflow.postgres.database import Database
from tests.shopify.tokens.conftest import Installed

HOUR = 3600.0
PROCESSES = 8
PATIENCE = 60.0


@asynccontextmanager
async def racers(database: Database, shop_id: int, count: int) -> AsyncIterator[list[Process]]:
    """Start processes and wait until each stands at the line."""
    folder = str(database.settings.data_dir)
    command = (sys.executable, "-m", "tests.shopify.tokens.racing", database.pooled_url, folder, str(shop_id))
    started = [await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, cwd=ROOT) for _ in range(count)]
    try:
        async with asyncio.timeout(PATIENCE):
            for each in started:
                assert each.stdout
                assert await each.stdout.readline() == b"ready\n"
        yield started
    finally:
        for each in started:
            if each.returncode is None:
                each.kill()
            await each.communicate()


ROOT = Path(__file__).parents[3]


async def go(processes: list[Process]) -> None:
    for each in processes:
        assert each.stdin
        each.stdin.write(b"go\n")
        await each.stdin.drain()


async def token_of(process: Process) -> str:
    assert process.stdout
    async with asyncio.timeout(PATIENCE):
        said = json.loads(await process.stdout.readline())
    return str(said["token"])


async def test_eight_processes_that_need_a_token_make_one_refresh_call(
    installed: Installed, database: Database
) -> None:
    await installed.let_pass(HOUR + 1)
    # Slow enough that all of them find the old token while the new one is on its way.
    await installed.shopify.plan(installed.tenant, "latency", seconds=1.0)
    async with racers(database, installed.shop_id, PROCESSES) as processes:
        await go(processes)
        found = {await token_of(each) for each in processes}
    assert len(found) == 1
    assert await installed.shopify.accepts(installed.tenant, found.pop())
    assert await installed.refreshes() == {"received": 1, "granted": 1, "refused": 0, "failed": 0}


async def test_a_refresher_that_is_killed_while_shopify_answers_costs_nothing_but_time(
    installed: Installed, database: Database
) -> None:
    await installed.let_pass(HOUR + 1)
    # Shopify has given the pair out when the process that asked is no more.
    await installed.shopify.plan(installed.tenant, "drop_after", times=1)
    await installed.shopify.plan(installed.tenant, "latency", seconds=2.0)
    async with racers(database, installed.shop_id, 2) as (victim, heir):
        await go([victim])
        async with asyncio.timeout(PATIENCE):
            while (await installed.refreshes())["received"] < 2:  # noqa: ASYNC110 - it happens in the simulator
                await asyncio.sleep(0.02)
        victim.send_signal(signal.SIGKILL)
        await victim.wait()
        await go([heir])
        await installed.let_leases_run_out()
        token = await token_of(heir)
    assert await installed.shopify.accepts(installed.tenant, token)
    assert (await installed.refreshes())["refused"] == 0
