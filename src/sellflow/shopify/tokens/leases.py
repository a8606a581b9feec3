"""Who may ask Shopify for the tokens of an app in a shop: one process at a time, without a lock held meanwhile.

Every answer of the token endpoint ends the token before it. Two that ask at once would leave one of them with a pair
that is dead, and the one that stores last would keep it. So whoever asks takes a lease first, and stores the answer
only while the lease is still the last that was given. A lease of a process that died runs out by itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from sellflow.postgres.database import Connection

#: Seconds for which a lease is given: longer than the endpoint's own limit (`endpoint.LONGEST`), with storing.
LENGTH = 30.0


@dataclass(frozen=True, slots=True)
class TokenLease:
    """A lease that was taken. Its number was never given before."""

    app_id: int
    domain: str
    number: int


async def take(connection: Connection, app_id: int, domain: str, *, seconds: float = LENGTH) -> TokenLease | None:
    """Take the lease; None where somebody else has it."""
    number = await connection.fetchval("SELECT take_token_lease($1, $2, $3)", app_id, domain, seconds)
    return None if number is None else TokenLease(app_id, domain, number)


async def hold(connection: Connection, lease: TokenLease) -> bool:
    """Say whether nobody has taken the lease since; if so, nobody does before the transaction ends."""
    held = await connection.fetchval("SELECT hold_token_lease($1, $2, $3)", lease.app_id, lease.domain, lease.number)
    return bool(held)


async def release(connection: Connection, lease: TokenLease) -> None:
    """Give the lease up, so that another may take it at once; one that is lost already is left as it is."""
    await connection.execute("SELECT release_token_lease($1, $2, $3)", lease.app_id, lease.domain, lease.number)
