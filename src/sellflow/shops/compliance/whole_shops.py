"""The erasure of a shop: its work is stopped, everything of it goes in small batches, its key last."""

from __future__ import annotations

from datetime import date, datetime

from sellflow.postgres.database import SessionConnection
from sellflow.postgres.personal_data import Holds, Table
from sellflow.secrets import forget_shop
from sellflow.shops.compliance import event_log, store
from sellflow.shops.compliance.customers import ensure_settled
from sellflow.shops.compliance.erasure import Erasure
from sellflow.shops.compliance.models import Request, Scope, State

#: Rows of a table deleted in one transaction; transfers with everything that hangs on them are fewer.
BATCH = 2000

PAUSE_REASON = "the shop is being erased"


async def reason_to_hold(connection: SessionConnection, request: Request) -> str | None:
    """Return why an operator should look first: a shop that has the app is erased on no webhook's word alone.

    Shopify sends shop/redact two days after the app was removed. Where it is installed, it came back meanwhile, or
    the notice of its removal was lost.
    """
    if request.confirmed or request.shop_id is None:
        return None
    is_installed = await connection.fetchval(
        "SELECT uninstalled_at IS NULL FROM shops WHERE shop_id = $1", request.shop_id
    )
    return "the shop is marked as installed: an operator has to confirm" if is_installed else None


async def erase_shop(work: Erasure, request: Request, *, settle_seconds: float) -> None:
    """Take the next step of a shop's erasure: the first pass, or the second and the end.

    Raises
    ------
    UnsettledError
        If it is too early for the second pass.
    """
    if request.state is State.SETTLING:
        await ensure_settled(work, request)
    # A shop whose name was forgotten already was erased: what is left is to say so.
    if request.shop_domain is not None:
        if request.shop_id is not None:
            await _stop_work(work.connection, request.shop_id)
        await delete_everything(work, request.scope)
        if request.state is not State.SETTLING and request.shop_id is not None:
            await store.settle(work.connection, request.request_id, seconds=settle_seconds)
            return
        await _end(work, request)
    await work.vacuum()
    await store.finish(work.connection, request.request_id)


async def _stop_work(connection: SessionConnection, shop_id: int) -> None:
    """Have no message of the shop claimed any more; what is in hand ends by itself.

    The pause outlasts the shop, so that nobody handles what still comes under its id.
    """
    await connection.execute(
        """
        INSERT INTO pauses (queue, shop_id, reason) VALUES (NULL, $1, $2) ON CONFLICT (queue, shop_id) DO NOTHING
        """,
        shop_id,
        PAUSE_REASON,
    )


async def delete_everything(work: Erasure, scope: Scope) -> None:
    """Delete a shop's rows from every table but the last ones, batch by batch; safe to run again at any point."""
    if scope.shop_id is not None:
        for table in work.inventory.tables():
            if table.holds is not Holds.INSTALLATION and not table.goes_with:
                await _delete_table(work, table, scope.shop_id)
    unknown = Scope(scope.app_id, None, scope.domain)
    for day in await event_log.days(work.connection):
        for each in (scope, unknown) if scope.shop_id is not None else (unknown,):
            await _delete_day(work, each, day)
    if scope.domain is not None:
        await _delete_receipts(work, scope)


async def _delete_table(work: Erasure, table: Table, shop_id: int) -> None:
    while True:
        async with work.connection.transaction():
            if table.delete is not None:
                counts = await table.delete(work.connection, shop_id, BATCH)
            else:
                counts = {table.name: await _delete_rows(work.connection, table.name, shop_id)}
            await work.note(counts)
        if not any(counts.values()):
            return


async def _delete_rows(connection: SessionConnection, table: str, shop_id: int) -> int:
    tag = await connection.execute(
        f"DELETE FROM {table} WHERE ctid = ANY (ARRAY(SELECT ctid FROM {table} WHERE shop_id = $1 LIMIT $2))",
        shop_id,
        BATCH,
    )
    return int(tag.removeprefix("DELETE "))


async def _delete_day(work: Erasure, scope: Scope, day: date) -> None:
    while True:
        async with work.connection.transaction():
            counts = await event_log.delete_events(work.connection, work.inventory, scope, day)
            await work.note(counts, day=day)
        if not counts:
            return


async def _delete_receipts(work: Erasure, scope: Scope) -> None:
    while True:
        async with work.connection.transaction():
            deleted = await event_log.delete_receipts(work.connection, scope)
            await work.note({"receipts": deleted})
        if not deleted:
            return


async def _end(work: Erasure, request: Request) -> None:
    """Forget the shop's name and key, and let its row go, in one transaction."""
    async with work.connection.transaction():
        counts = await _forget_domain(work, request)
        if request.shop_id is not None:
            counts["data_keys"] = int(await forget_shop(work.connection, request.shop_id))
            await work.connection.execute("DELETE FROM shops WHERE shop_id = $1", request.shop_id)
            counts["shops"] = 1
        await work.note(counts)


async def _forget_domain(work: Erasure, request: Request) -> dict[str, int]:
    counts = {}
    for table in work.inventory.tables():
        if table.delete_domain:
            tag = await work.connection.execute(table.delete_domain, request.app_id, request.shop_domain)
            counts[table.name] = int(tag.removeprefix("DELETE "))
    counts["compliance_exports"] = await store.forget_domain(work.connection, request)
    return counts


async def clear_strays(work: Erasure, shop_id: int, app_id: int) -> None:
    """Deal with what came under the id of a shop that is gone: a web process knew the id for a minute more.

    Where the shop is back, under another id, its webhooks are handed over; else they go as the others did.
    """
    before = work.counts.total()
    await event_log.hand_over(work.connection, shop_id)
    await delete_everything(work, Scope(app_id, shop_id, None))
    if work.counts.total() > before:
        await work.vacuum()


async def lift_pauses(connection: SessionConnection, *, gone_before: datetime) -> None:
    """Forget the pauses of shops that are gone for so long that nothing comes under their ids any more."""
    await connection.execute(
        """
        DELETE FROM pauses p USING compliance_requests r
        WHERE p.reason = $2 AND r.shop_id = p.shop_id AND r.kind = 'shop_redact' AND r.state = 'done'
          AND r.finished_at < $1
        """,
        gone_before,
        PAUSE_REASON,
    )
