"""What a shop sold before it installed the app: imported, and worth points from a moment of the merchant's choice."""

from __future__ import annotations

from datetime import UTC, datetime

from sellflow.errors import ConfigurationError
from sellflow.loyalty.program_store import start_earning
from sellflow.postgres.database import Connection
from sellflow.shops.imports.store import Kind, ask_for


async def begin_import(
    connection: Connection, shop_id: int, kind: Kind, *, since: datetime | None, earn_from: datetime | None
) -> bool:
    """Have a shop's customers or orders imported; False where that goes on already.

    Orders from before now bring no points, unless they are to from `earn_from` on. Moments without an offset are UTC.

    Raises
    ------
    ConfigurationError
        If it is said of customers from when on orders earn, or a moment lies ahead.
    """
    if earn_from and kind != "orders":
        raise ConfigurationError("from when on orders bring points goes with an import of orders")
    now = datetime.now(UTC)
    since, earn_from = (moment and _utc(moment) for moment in (since, earn_from))
    if since and since > now:
        raise ConfigurationError(f"nothing was made since {since:%Y-%m-%d %H:%M}: that moment is still to come")
    if not await ask_for(connection, [shop_id], kind, since=since):
        return False
    if kind == "orders":
        await start_earning(connection, shop_id, earn_from or now, only_if_unset=earn_from is None)
    return True


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
