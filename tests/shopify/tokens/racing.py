"""One process of several that want the token of a shop in the same moment: `python -m tests.shopify.tokens.racing`."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from sellflow.logs import configure_logging
from sellflow.postgres.database import Database, Login, close_pool
from sellflow.postgres.transactions import of_worker
from sellflow.secrets import build_vault
from sellflow.shopify.tokens import AccessTokens
from sellflow.shopify.tokens.endpoint import TokenEndpoint
from tests.conftest import settings_for


async def race(url: str, folder: str, shop_id: int) -> None:
    """Say that everything is loaded, wait for the word, and print the token that was got."""
    database = Database(url, url, settings_for(Path(folder)))
    configure_logging(database.settings)  # to standard error, away from what is said to the test
    pool = await database.pool(Login.WORKER, purpose="test racer", size=2)
    tokens = AccessTokens(transactions=of_worker(pool), vault=build_vault(database.settings), endpoint=TokenEndpoint())
    await pool.fetchval("SELECT 1")
    print("ready", flush=True)  # noqa: T201 - to the test
    await asyncio.to_thread(sys.stdin.readline)
    access = await tokens.get(shop_id)
    print(json.dumps({"token": access.token}), flush=True)  # noqa: T201
    await tokens.close()
    await close_pool(pool)


if __name__ == "__main__":
    asyncio.run(race(sys.argv[1], sys.argv[2], int(sys.argv[3])))
