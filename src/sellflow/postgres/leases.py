"""Leases: who may do what one process at a time may do, and until when.

A lease ends by itself, also when its holder is frozen or cut off, and needs no session of its own. Its epoch rises
each time it is taken. What must not be written by a former holder asks `ensure_held` last in its transaction.
"""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass
from secrets import token_hex

from sellflow.errors import SellflowError
from sellflow.postgres.database import Connection

#: Part of a lease that its holder does not use, so that it has stopped before the lease ends.
MARGIN = 0.2
#: Seconds for which a transaction that has looked at its lease may idle: a frozen process must not keep others out.
LONGEST_FENCE = 5.0


class LeaseLostError(SellflowError):
    """Somebody else may hold the lease by now: what was being done is given up."""

    code = "lease.lost"


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease that was taken: `usable_until` is a reading of `time.monotonic()` after which to do nothing more."""

    name: str
    holder: str
    epoch: int
    length: float
    usable_until: float


def holder_name() -> str:
    """Return a name for a new holder: of machine and process for people, and never the same twice."""
    return f"{socket.gethostname()}:{os.getpid()}:{token_hex(4)}"


async def acquire(connection: Connection, name: str, holder: str, *, seconds: float) -> Lease | None:
    """Take a lease that nobody holds; None where another does."""
    asked_at = time.monotonic()
    epoch = await connection.fetchval(
        """
        INSERT INTO leases AS l (name, holder, epoch, expires_at)
        VALUES ($1, $2, 1, clock_timestamp() + make_interval(secs => $3))
        ON CONFLICT (name) DO UPDATE
        SET holder = EXCLUDED.holder, epoch = l.epoch + 1,
            expires_at = clock_timestamp() + make_interval(secs => $3)
        WHERE l.expires_at <= clock_timestamp() OR l.holder = EXCLUDED.holder
        RETURNING epoch
        """,
        name,
        holder,
        seconds,
    )
    return None if epoch is None else Lease(name, holder, epoch, seconds, asked_at + seconds * (1 - MARGIN))


async def renew(connection: Connection, lease: Lease) -> Lease:
    """Extend a lease by its length from now.

    Raises
    ------
    LeaseLostError
        If it ran out, whether or not somebody else has taken it since.
    """
    asked_at = time.monotonic()
    renewed = await connection.fetchval(
        """
        UPDATE leases SET expires_at = clock_timestamp() + make_interval(secs => $3)
        WHERE name = $1 AND epoch = $2 AND expires_at > clock_timestamp()
        RETURNING true
        """,
        lease.name,
        lease.epoch,
        lease.length,
    )
    if not renewed:
        raise LeaseLostError(f"the lease {lease.name} of {lease.holder} ran out before it was renewed")
    return Lease(lease.name, lease.holder, lease.epoch, lease.length, asked_at + lease.length * (1 - MARGIN))


async def release(connection: Connection, lease: Lease) -> None:
    """Give a lease up, so that another may take it at once; one that is lost already is left as it is."""
    await connection.execute(
        "UPDATE leases SET expires_at = LEAST(expires_at, clock_timestamp()) WHERE name = $1 AND epoch = $2",
        lease.name,
        lease.epoch,
    )


async def ensure_held(connection: Connection, lease: Lease) -> None:
    """Make sure that the lease is held until the transaction commits: its last statement, or renewing must wait.

    Raises
    ------
    LeaseLostError
        If the lease ran out; let the transaction roll back then.
    """
    held = await connection.fetchval(
        """
        WITH held AS MATERIALIZED (
            SELECT name FROM leases WHERE name = $1 AND epoch = $2 AND expires_at > clock_timestamp() FOR SHARE
        )
        SELECT set_config('idle_in_transaction_session_timeout', $3, true) FROM held
        """,
        lease.name,
        lease.epoch,
        str(round(LONGEST_FENCE * 1000)),
    )
    if held is None:
        raise LeaseLostError(f"the lease {lease.name} of {lease.holder} was lost: nothing is written under it")
