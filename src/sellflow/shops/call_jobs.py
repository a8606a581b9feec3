"""Periodic work on changes that were asked of Shopify: giving up what nobody can know any more, and forgetting."""

from __future__ import annotations

from sellflow.postgres.database import SessionConnection
from sellflow.queue.jobs import Job
from sellflow.settings import Settings
from sellflow.shopify.admin.stored_store import delete_old_calls, give_up_old_calls

EVERY = 3600.0
#: Rows that one statement deletes.
AT_ONCE = 10_000


def prune_admin_calls(settings: Settings) -> Job:
    """Return the job: a call whose key Shopify has forgotten is given up, and what is finished is deleted in time."""

    async def run(connection: SessionConnection) -> str:
        given_up = await give_up_old_calls(connection)
        total = 0
        while deleted := await delete_old_calls(connection, days=settings.admin_call_retention_days, most=AT_ONCE):
            total += deleted
        return f"{given_up} calls given up, {total} deleted"

    return Job("prune_admin_calls", EVERY, run, timeout=600.0)
