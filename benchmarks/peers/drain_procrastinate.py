"""Orders as procrastinate jobs: `schema` prepares, `fill FILE` queues them, `work` books them, 32 at a time.

Runs in an environment of its own, with the packages of requirements-procrastinate.txt.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import procrastinate
import psycopg
import psycopg_pool

CONCURRENCY = 32
FILL_BATCH = 500
AWARD_ORDER = "SELECT award_order($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)"
ADDRESS = f"host={os.environ['POSTGRES_SOCKET']} user=postgres dbname=postgres"
SHOP_ID = int(os.environ.get("SHOP_ID", "0"))

app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=ADDRESS, min_size=4, max_size=CONCURRENCY))
pool = psycopg_pool.AsyncConnectionPool(
    ADDRESS,
    min_size=CONCURRENCY,
    max_size=CONCURRENCY,
    open=False,
    kwargs={"autocommit": True, "cursor_factory": psycopg.AsyncRawCursor, "prepare_threshold": 1},
)


async def award(order: dict[str, Any]) -> None:
    """Book one order as Shopify sends it; a second time changes nothing."""
    lines = order["line_items"]
    values = [
        SHOP_ID,
        order["id"],
        order["name"],
        order["currency"],
        order["subtotal_price"],
        order["financial_status"],
        order["created_at"],
        order["updated_at"],
        order["customer"]["id"],
        [line["id"] for line in lines],
        [line["product_id"] for line in lines],
        [line["variant_id"] for line in lines],
        [line["quantity"] for line in lines],
        [line["price"] for line in lines],
        [line["total_discount"] for line in lines],
    ]
    async with pool.connection() as connection:
        await connection.execute(AWARD_ORDER, values)


task = app.task(queue="orders", name="award")(award)


async def prepare() -> None:
    """Make procrastinate's own tables."""
    async with app.open_async():
        await app.schema_manager.apply_schema_async()


async def fill(file: Path) -> None:
    """Queue the orders of a file, one a line."""
    with file.open(encoding="utf-8") as lines:
        async with app.open_async():
            while batch := list(islice(lines, FILL_BATCH)):
                await task.batch_defer_async(*({"order": json.loads(line)} for line in batch))


async def work() -> None:
    """Book orders until told to stop."""
    async with app.open_async(), pool:
        await app.run_worker_async(queues=["orders"], concurrency=CONCURRENCY, delete_jobs="successful")


if __name__ == "__main__":
    if sys.argv[1] == "fill":
        asyncio.run(fill(Path(sys.argv[2])))
    else:
        asyncio.run({"schema": prepare, "work": work}[sys.argv[1]]())
