"""Carrying out a bulk operation step by step, so that the simulator goes on answering meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import orjson

from sellflow.simulator.graphql.bulk import finish_notice, lines_of
from sellflow.simulator.graphql.execution import Engine, Plan
from sellflow.simulator.graphql.fields import Window, World
from sellflow.simulator.graphql.records import BulkOperation
from sellflow.simulator.graphql.service import AdminApi


async def run(api: AdminApi, engine: Engine, operation: BulkOperation, world_of: Callable[[Window], World]) -> None:
    """Carry out `operation`; `world_of` gives the world in which each step is resolved."""
    plan = engine.plan(engine.prepare(operation.query), None, {})
    path = api.file(f"{operation.id}.jsonl")
    window = Window(0, 0, is_last=False)
    if operation.status == "CREATED":
        operation.status = "RUNNING"
    path.write_bytes(b"")
    world = world_of(window)
    pace = world.admin.bulk_pace
    while operation.status == "RUNNING" and not window.is_last:
        window.size = pace.step
        _step(engine, plan, operation, world, path)
        window.start += window.size
        await asyncio.sleep(pace.seconds)
        await pace.gate.wait()
    _finish(api, operation, path, world)
    api.tell(world.domain, [finish_notice(operation)])


def _step(engine: Engine, plan: Plan, operation: BulkOperation, world: World, path: Path) -> None:
    assert world.window is not None
    world.window.is_last = True  # unless the root is a connection that has more
    result = engine.execute(plan, world, {})
    if result.errors:
        operation.status, operation.error_code = "FAILED", "INTERNAL_SERVER_ERROR"
        return
    selected = plan.operation.selection_set
    with path.open("ab") as file:
        for line, is_root in lines_of(result.data, selected, plan.prepared.fragments):
            file.write(orjson.dumps(line) + b"\n")
            operation.objects += 1
            operation.roots += is_root


def _finish(api: AdminApi, operation: BulkOperation, path: Path, world: World) -> None:
    if operation.status == "RUNNING":
        operation.status = "COMPLETED"
    elif operation.status == "CANCELING":
        operation.status = "CANCELED"
    operation.completed_at = api.now()
    operation.path, operation.file_size = path, path.stat().st_size
    # Without objects there is no file, as with Shopify.
    if operation.objects:
        operation.url = f"{world.base_url}/shops/{world.domain}/bulk-results/{operation.id}.jsonl"
