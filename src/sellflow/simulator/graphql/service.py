"""The Admin API as a whole: its shops, its schema once somebody needs it, and what goes on in the background."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from sellflow.simulator.backend import Shopify
from sellflow.simulator.graphql.shops import AdminShop, open_admin
from sellflow.simulator.models import API_VERSION
from sellflow.simulator.notices import Notice

if TYPE_CHECKING:
    from sellflow.simulator.graphql.execution import Engine

logger = logging.getLogger(__name__)

Post = Callable[[str, Iterable[Notice]], Awaitable[None]]


class AdminApi:
    """What the simulator knows of the Admin API.

    Parameters
    ----------
    now
        Tells the time: buckets, keys and everything else go by it.
    post
        Sends webhooks.
    schema_dir
        Where Shopify's schemas are.
    """

    def __init__(self, shopify: Shopify, now: Callable[[], datetime], post: Post, schema_dir: Path) -> None:
        self.shopify = shopify
        self.now = now
        self._post = post
        self._schema_dir = schema_dir
        self._shops: dict[str, AdminShop] = {}
        self._engine: Engine | None = None
        self._loading = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._untold: dict[str, dict[object, Notice]] = {}
        self._telling: set[str] = set()
        self._files: tempfile.TemporaryDirectory[str] | None = None

    @property
    def version(self) -> str:
        """The one API version that is answered."""
        return API_VERSION

    def shop(self, domain: str) -> AdminShop:
        """Return a shop's memory.

        Raises
        ------
        NotFoundError
            If there is no such shop.
        """
        shop = self.shopify.shop(domain)
        if domain not in self._shops:
            self._shops[domain] = open_admin(shop, self.now)
        return self._shops[domain]

    async def engine(self) -> Engine:
        """Return what executes documents; the first caller waits while the schema is read.

        Raises
        ------
        SchemaMissingError
            If its file is not there.
        """
        async with self._loading:
            if self._engine is None:
                self._engine = await asyncio.to_thread(self._load)
        return self._engine

    def use(self, engine: Engine) -> None:
        """Execute through an engine that was made elsewhere."""
        self._engine = engine

    def _load(self) -> Engine:
        # Read late: most simulators never answer GraphQL, and the schema is most of the memory that one takes.
        from sellflow.simulator.graphql.execution import Engine  # noqa: PLC0415
        from sellflow.simulator.graphql.schema import load_schema  # noqa: PLC0415

        return Engine(load_schema(self._schema_dir, self.version))

    def file(self, name: str) -> Path:
        """Return where a file may be written; it goes with the simulator."""
        if self._files is None:
            self._files = tempfile.TemporaryDirectory(prefix="sellflow-simulator-")
        return Path(self._files.name) / name

    def tell(self, domain: str, notices: Iterable[Notice]) -> None:
        """Send webhooks in the background. A stock level that changes again before it was told of is told of once."""
        waiting = self._untold.setdefault(domain, {})
        for notice in notices:
            waiting[_subject(notice)] = notice
        if waiting and domain not in self._telling:
            self._telling.add(domain)
            self.start(self._tell_all(domain))

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something in the background, until the simulator is closed."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    async def settle(self) -> None:
        """Wait until nothing goes on in the background."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """Give up what is under way."""
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._files is not None:
            self._files.cleanup()

    async def _tell_all(self, domain: str) -> None:
        waiting = self._untold[domain]
        try:
            while waiting:
                await self._post(domain, [waiting.pop(next(iter(waiting)))])
        finally:
            self._telling.discard(domain)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (failure := task.exception()) is not None:
            logger.error("work in the background broke off", exc_info=failure)


def _subject(notice: Notice) -> object:
    if notice.topic != "inventory_levels/update":
        return notice.topic, id(notice)
    level = orjson.loads(notice.body)
    return level["inventory_item_id"], level["location_id"]
