"""Periodic work on shops' tokens: renewing what ends soon, and telling of what was granted or lost."""

from __future__ import annotations

import asyncio

import orjson
import structlog

from sellflow.errors import SellflowError
from sellflow.postgres.database import SessionConnection
from sellflow.postgres.transactions import of_session
from sellflow.queue.event_log import emit
from sellflow.queue.jobs import Job
from sellflow.queue.registry import Registry
from sellflow.queue.topics import EmittedEvent
from sellflow.secrets import build_vault
from sellflow.settings import Settings
from sellflow.shopify.tokens import AccessTokens, rules
from sellflow.shopify.tokens.endpoint import TokenEndpoint
from sellflow.shopify.tokens.store import tokens_to_renew
from sellflow.shops.handlers import INSTALLED, REINSTALL_NEEDED
from sellflow.shops.installation_store import take_announcements
from sellflow.shops.models import Announcement

log = structlog.get_logger(__name__)

#: Shops asked for at a time, and in one run.
AT_A_TIME = 8
AT_ONCE = 1000
ANNOUNCED_AT_ONCE = 500


def renew_tokens(settings: Settings) -> Job:
    """Return the job that renews tokens before anybody has to wait for it."""

    async def run(connection: SessionConnection) -> str:
        due = await tokens_to_renew(connection, early=rules.EARLY, limit=AT_ONCE)
        if not due:
            return "no token ends soon"
        tokens = AccessTokens(
            transactions=of_session(connection), vault=build_vault(settings), endpoint=TokenEndpoint(), patience=5.0
        )
        room = asyncio.Semaphore(AT_A_TIME)

        async def renew(shop_id: int) -> bool:
            async with room:
                return await _renew(tokens, shop_id)

        try:
            renewed = await asyncio.gather(*(renew(shop_id) for shop_id in due))
        finally:
            await tokens.close()
        return f"{sum(renewed)} of {len(due)} tokens renewed"

    return Job("renew_tokens", 60, run, timeout=240.0)


async def _renew(tokens: AccessTokens, shop_id: int) -> bool:
    """Renew one shop's token; what stands in its way is that shop's alone, and written down with it."""
    try:
        await tokens.renew_early(shop_id)
    except SellflowError as error:
        log.info("shopify.token_not_renewed_early", shop_id=shop_id, code=error.code, error=str(error))
        return False
    return True


def announce_installations(registry: Registry) -> Job:
    """Return the job that emits what web may not: it stores a grant, and the event follows."""

    async def run(connection: SessionConnection) -> str:
        async with connection.transaction():
            news = await take_announcements(connection, limit=ANNOUNCED_AT_ONCE)
            await emit(connection, registry, [_event(each) for each in news])
        return f"{len(news)} shops announced"

    return Job("announce_installations", 5, run)


def _event(news: Announcement) -> EmittedEvent:
    told = {"shop": news.domain, "scopes": list(news.scopes)}
    if news.broken is None:
        return EmittedEvent(news.shop_id, INSTALLED, f"shop:{news.shop_id}", orjson.dumps(told))
    told["reason"] = news.broken
    return EmittedEvent(news.shop_id, REINSTALL_NEEDED, f"shop:{news.shop_id}", orjson.dumps(told))
