"""The rows of the buckets. Their arithmetic is in the functions of migration 0012, as one statement each."""

from __future__ import annotations

from dataclasses import dataclass, field

from sellflow.postgres.database import Connection
from sellflow.shopify.admin.answers import Cost

#: Proper answers that must fail in a row before a shop is left alone, and for how many seconds: at first, and at most.
BREAK_AFTER = 5
BREAK_FOR = 1.0
BREAK_FOR_MOST = 60.0


@dataclass(frozen=True, slots=True)
class Turn:
    """What a caller is told: to go on, or to wait."""

    is_granted: bool
    #: Whether the shop is left alone, by everybody.
    is_closed: bool
    #: Seconds until it will be its turn, and until asking again is worth while.
    wait: float
    look_again: float


@dataclass(frozen=True, slots=True)
class Settlement:
    """What became of a call: `points` it really cost, None where nobody knows."""

    points: float | None = None
    cost: Cost = field(default_factory=Cost)
    #: Whether Shopify failed to answer properly; None where it was not asked.
    failed: bool | None = None
    #: Seconds for which nobody is to call.
    pause: float = 0.0


async def take_points(
    connection: Connection,
    shop_id: int,
    caller: str,
    points: float,
    *,
    reserve: float,
    in_background: bool,
    lifetime: float,
) -> Turn:
    """Take points for a call, or learn how long to wait."""
    row = await connection.fetchrow(
        """
        SELECT is_granted, is_closed, wait, look_again
        FROM take_admin_points($1, $2, $3, $4, $5, $6, $7)
        """,
        shop_id,
        caller,
        points,
        reserve,
        in_background,
        lifetime,
        BREAK_AFTER,
    )
    assert row is not None
    return Turn(**row)


async def settle_points(connection: Connection, shop_id: int, caller: str, settlement: Settlement) -> None:
    """Book what became of a call."""
    cost = settlement.cost
    await connection.execute(
        "SELECT settle_admin_points($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        shop_id,
        caller,
        settlement.points,
        cost.available,
        cost.maximum,
        cost.restore_rate,
        settlement.failed,
        settlement.pause,
        BREAK_AFTER,
        BREAK_FOR,
        BREAK_FOR_MOST,
    )


async def leave_line(connection: Connection, shop_id: int, caller: str) -> None:
    """Wait no longer."""
    await connection.execute("SELECT leave_admin_line($1, $2)", shop_id, caller)
