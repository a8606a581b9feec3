"""The SQL of master and data keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from sellflow.postgres.database import Connection, Pool
from sellflow.secrets.providers import MasterKeyRow

_DATA_KEY = "data_key_id, shop_id, provider, master_key_id, wrapped"
_MASTER_KEY = "provider, master_key_id, is_current, wrapped, service_key_id"


@dataclass(frozen=True, slots=True)
class DataKeyRow:
    """A data key as it is stored: wrapped. `shop_id` is None for the installation's own."""

    data_key_id: UUID
    shop_id: int | None
    provider: str
    master_key_id: str
    wrapped: bytes = field(repr=False)


async def data_key_of(connection: Connection | Pool, shop_id: int | None) -> DataKeyRow | None:
    """Return the data key of a shop, as far as the login may see it."""
    row = await connection.fetchrow(f"SELECT {_DATA_KEY} FROM data_keys WHERE COALESCE(shop_id, 0) = $1", shop_id or 0)
    return None if row is None else DataKeyRow(**row)


async def find_data_key(connection: Connection | Pool, data_key_id: UUID) -> DataKeyRow | None:
    """Return a data key by its id, as far as the login may see it."""
    row = await connection.fetchrow(f"SELECT {_DATA_KEY} FROM data_keys WHERE data_key_id = $1", data_key_id)
    return None if row is None else DataKeyRow(**row)


async def add_data_key(connection: Connection | Pool, key: DataKeyRow) -> bool:
    """Add a shop's data key, unless it has one or its master key is no longer the current one; say whether it was."""
    added = await connection.fetchval(
        """
        INSERT INTO data_keys (data_key_id, shop_id, provider, master_key_id, wrapped)
        SELECT $1, $2, m.provider, m.master_key_id, $5
        FROM master_keys m WHERE m.provider = $3 AND m.master_key_id = $4 AND m.is_current
        ON CONFLICT ((COALESCE(shop_id, 0))) DO NOTHING
        RETURNING true
        """,
        key.data_key_id,
        key.shop_id,
        key.provider,
        key.master_key_id,
        key.wrapped,
    )
    return bool(added)


async def forget_shop(connection: Connection, shop_id: int) -> bool:
    """Erase a shop's data key, and with it whatever was sealed for the shop, wherever copies of that are.

    The owner's. Processes that have the key in hand know it for `vault.MAX_AGE` seconds more. Says whether there was
    one. What is sealed for the shop afterwards, as when it comes back, gets a new key.
    """
    return await connection.execute("DELETE FROM data_keys WHERE shop_id = $1", shop_id) != "DELETE 0"


async def current_master_key(connection: Connection | Pool) -> MasterKeyRow | None:
    """Return the master key that wraps new data keys."""
    row = await connection.fetchrow(f"SELECT {_MASTER_KEY} FROM master_keys WHERE is_current")
    return None if row is None else MasterKeyRow(**row)


async def find_master_key(connection: Connection | Pool, provider: str, master_key_id: str) -> MasterKeyRow:
    """Return a master key that wraps something: it is there."""
    row = await connection.fetchrow(
        f"SELECT {_MASTER_KEY} FROM master_keys WHERE provider = $1 AND master_key_id = $2", provider, master_key_id
    )
    assert row is not None, "data_keys refers to it"
    return MasterKeyRow(**row)


async def add_first_master_key(connection: Connection, key: MasterKeyRow) -> None:
    """Make a master key the current one, unless there is one by now."""
    await connection.execute(
        """
        INSERT INTO master_keys (provider, master_key_id, is_current, wrapped, service_key_id)
        VALUES ($1, $2, true, $3, $4)
        ON CONFLICT (is_current) WHERE is_current DO NOTHING
        """,
        key.provider,
        key.master_key_id,
        key.wrapped,
        key.service_key_id,
    )


async def list_master_keys(connection: Connection) -> list[MasterKeyRow]:
    """Return every master key, the eldest first."""
    rows = await connection.fetch(f"SELECT {_MASTER_KEY} FROM master_keys ORDER BY created_at, master_key_id")
    return [MasterKeyRow(**row) for row in rows]


async def make_current(connection: Connection, key: MasterKeyRow) -> None:
    """Add a master key that wraps new data keys from now on."""
    async with connection.transaction():
        await connection.execute("UPDATE master_keys SET is_current = false WHERE is_current")
        await add_first_master_key(connection, key)


async def delete_master_key(connection: Connection, key: MasterKeyRow) -> None:
    """Remove a master key that nothing is wrapped by: the foreign key of data_keys refuses any other."""
    await connection.execute(
        "DELETE FROM master_keys WHERE provider = $1 AND master_key_id = $2", key.provider, key.master_key_id
    )


async def count_wrapped_by_others(connection: Connection, current: MasterKeyRow) -> int:
    """Return how many data keys are wrapped by another master key than the current one."""
    return int(
        await connection.fetchval(
            "SELECT count(*) FROM data_keys WHERE (provider, master_key_id) <> ($1, $2)",
            current.provider,
            current.master_key_id,
        )
    )


async def wait_for_inserts(connection: Connection, current: MasterKeyRow) -> None:
    """Wait until whoever is inserting a data key under a former master key has committed.

    An insertion locks the row of its master key against just this; none can begin any more, as it is not current.
    """
    await connection.execute(
        "SELECT FROM master_keys WHERE (provider, master_key_id) <> ($1, $2) FOR UPDATE",
        current.provider,
        current.master_key_id,
    )


async def data_keys_of_others(
    connection: Connection, current: MasterKeyRow, after: UUID | None, *, limit: int
) -> list[DataKeyRow]:
    """Return data keys that another master key wraps, in the order of their ids, those after one alone."""
    rows = await connection.fetch(
        f"""
        SELECT {_DATA_KEY} FROM data_keys
        WHERE (provider, master_key_id) <> ($1, $2) AND ($3::uuid IS NULL OR data_key_id > $3)
        ORDER BY data_key_id LIMIT $4
        """,
        current.provider,
        current.master_key_id,
        after,
        limit,
    )
    return [DataKeyRow(**row) for row in rows]


async def rewrap(connection: Connection, current: MasterKeyRow, rows: Sequence[tuple[DataKeyRow, bytes]]) -> int:
    """Replace the wrapping of data keys, those excepted that were erased or wrapped anew meanwhile."""
    status = await connection.execute(
        """
        UPDATE data_keys d
        SET provider = $1, master_key_id = $2, wrapped = n.wrapped, wrapped_at = clock_timestamp()
        FROM unnest($3::uuid[], $4::bytea[], $5::bytea[]) AS n (data_key_id, former, wrapped)
        WHERE d.data_key_id = n.data_key_id AND d.wrapped = n.former
        """,
        current.provider,
        current.master_key_id,
        [row.data_key_id for row, _ in rows],
        [row.wrapped for row, _ in rows],
        [wrapped for _, wrapped in rows],
    )
    return int(status.split()[-1])


@dataclass(frozen=True, slots=True)
class KeyUse:
    """How many data keys a master key wraps."""

    provider: str
    master_key_id: str
    is_current: bool
    service_key_id: str | None
    created_at: datetime
    data_keys: int


async def key_uses(connection: Connection) -> list[KeyUse]:
    """Return every master key with what it wraps, the eldest first."""
    rows = await connection.fetch(
        """
        SELECT m.provider, m.master_key_id, m.is_current, m.service_key_id, m.created_at,
               count(d.data_key_id) AS data_keys
        FROM master_keys m LEFT JOIN data_keys d USING (provider, master_key_id)
        GROUP BY m.provider, m.master_key_id
        ORDER BY m.created_at, m.master_key_id
        """
    )
    return [KeyUse(**row) for row in rows]
