"""Wraps every data key anew, while everything runs: nothing that is sealed is touched, and no process is told.

A process that has data keys in memory goes on using them; one that reads a row finds which master key it needs. Killed
at any point, a rotation is finished by the next one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

import asyncpg
import structlog

from sellflow.errors import NotFoundError
from sellflow.postgres.database import SessionConnection
from sellflow.secrets import envelope, store
from sellflow.secrets.errors import CannotOpenError, SecretsError
from sellflow.secrets.providers import KeyProvider, MasterKeyRow, build_providers
from sellflow.secrets.store import DataKeyRow
from sellflow.secrets.vault import Vault
from sellflow.settings import Settings

log = structlog.get_logger(__name__)

BATCH = 200

#: Told how many data keys are wrapped anew, of how many.
Progress = Callable[[int, int], None]


class KeyInUseError(SecretsError):
    """A master key cannot be dropped while it is current, or anything is wrapped by it."""

    code = "secrets.key_in_use"


class RotationRunningError(SecretsError):
    """Somebody else is rotating or dropping a master key."""

    code = "secrets.busy"


@dataclass(frozen=True, slots=True)
class Rotated:
    """What a rotation came to. `is_new` says whether its key was made now, or by one that was interrupted.

    `damaged` are data keys that do not open and were left as they are, `droppable` the master keys that wrap nothing.
    """

    current: MasterKeyRow
    is_new: bool
    rewrapped: int
    damaged: list[UUID]
    droppable: list[str]


async def rotate(connection: SessionConnection, settings: Settings, progress: Progress) -> Rotated:
    """Make a new master key, by the provider that is set, and wrap every data key by it, as the owner.

    Where an earlier rotation was interrupted, its key stays current and the rest is wrapped by that.

    Raises
    ------
    RotationRunningError
        If another rotation runs.
    MasterKeyMissingError
        If this process has no access to a key that wraps something.
    """
    async with _alone(connection):
        providers = build_providers(settings)
        vault = Vault(providers)
        # First of all, that nothing new is made where what is there cannot be opened.
        for use in await store.key_uses(connection):
            if use.data_keys:
                await vault.master_key_by_id(connection, use.provider, use.master_key_id)
        current, is_new = await _choose(connection, vault, providers[settings.master_key_provider])
        damaged: set[UUID] = set()
        rewrapped = await _rewrap_all(connection, vault, current, damaged, progress)
        idle = [each for each in await store.key_uses(connection) if not (each.is_current or each.data_keys)]
        return Rotated(current, is_new, rewrapped, sorted(damaged), [each.master_key_id for each in idle])


async def drop(connection: SessionConnection, settings: Settings, master_key_id: str) -> None:
    """Forget a master key for good, as the owner.

    Raises
    ------
    NotFoundError
        If there is none by that id.
    KeyInUseError
        If it is current, or anything is wrapped by it.
    """
    async with _alone(connection):
        keys = {each.master_key_id: each for each in await store.list_master_keys(connection)}
        key = keys.get(master_key_id)
        if key is None:
            raise NotFoundError(f"there is no master key {master_key_id!r} (known: {', '.join(keys)})")
        if key.is_current:
            raise KeyInUseError(f"{key} is the current master key: `sellflow secrets rotate` makes another")
        # The row goes with the key or not at all: a key without its row would be taken for a new one. The foreign key
        # of data_keys refuses, and waits for whoever is about to commit a key wrapped by this one.
        try:
            async with connection.transaction():
                await store.delete_master_key(connection, key)
                await build_providers(settings)[key.provider].drop(key)
        except asyncpg.ForeignKeyViolationError:
            raise KeyInUseError(
                f"data keys are still wrapped by {key}: run `sellflow secrets rotate` to its end first"
            ) from None


async def _choose(connection: SessionConnection, vault: Vault, wanted: KeyProvider) -> tuple[MasterKeyRow, bool]:
    """Return the master key to wrap by, and whether it is a new one: an interrupted rotation has made its own."""
    known = await store.list_master_keys(connection)
    for each in known:
        if each.is_current and wanted.is_wanted(each) and await store.count_wrapped_by_others(connection, each):
            return each, False
    made = await wanted.make([each.master_key_id for each in known])
    await vault.master_key(made)  # nothing is wrapped by a key that cannot be had again
    await store.make_current(connection, made)
    return made, True


async def _rewrap_all(
    connection: SessionConnection, vault: Vault, current: MasterKeyRow, damaged: set[UUID], progress: Progress
) -> int:
    """Wrap data keys until none is left that another master key wraps, but damaged ones; return how many these were."""
    done, total = 0, await store.count_wrapped_by_others(connection, current)
    progress(done, total)
    while True:
        # What a process wrapped by the key of before, and is about to commit, is waited for.
        await store.wait_for_inserts(connection, current)
        after: UUID | None = None
        while rows := await store.data_keys_of_others(connection, current, after, limit=BATCH):
            anew = await _wrapped_anew(connection, vault, current, rows, damaged)
            done += await store.rewrap(connection, current, anew)
            after = rows[-1].data_key_id
            progress(done, max(done, total))
        if await store.count_wrapped_by_others(connection, current) <= len(damaged):
            return done


async def _wrapped_anew(
    connection: SessionConnection, vault: Vault, current: MasterKeyRow, rows: Sequence[DataKeyRow], damaged: set[UUID]
) -> list[tuple[DataKeyRow, bytes]]:
    """Return rows with their new wrapping; one that does not open stands in no other's way."""
    by = await vault.master_key(current)
    anew = []
    for row in rows:
        former = await vault.master_key_by_id(connection, row.provider, row.master_key_id)
        try:
            data_key = envelope.unwrap(row.wrapped, master_key=former, data_key_id=row.data_key_id, shop_id=row.shop_id)
        except CannotOpenError as error:
            log.warning("secrets.data_key_damaged", data_key_id=str(row.data_key_id), error=str(error))
            damaged.add(row.data_key_id)
        else:
            wrapped = envelope.wrap(data_key, master_key=by, data_key_id=row.data_key_id, shop_id=row.shop_id)
            anew.append((row, wrapped))
    return anew


@asynccontextmanager
async def _alone(connection: SessionConnection) -> AsyncIterator[None]:
    """Keep other rotations out, by a lock that ends with this session."""
    if not await connection.fetchval("SELECT pg_try_advisory_lock(hashtext('sellflow.secrets'))"):
        raise RotationRunningError("master keys are being rotated or dropped just now: try again when that is done")
    try:
        yield
    finally:
        await connection.execute("SELECT pg_advisory_unlock(hashtext('sellflow.secrets'))")
