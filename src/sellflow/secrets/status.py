"""What there is of master keys, for whoever looks after them."""

from __future__ import annotations

from dataclasses import dataclass

from sellflow.postgres.database import SessionConnection
from sellflow.secrets import store
from sellflow.secrets.errors import SecretsError
from sellflow.secrets.providers import MasterKeyRow, build_providers
from sellflow.secrets.store import KeyUse
from sellflow.secrets.unsealed import count_unsealed
from sellflow.settings import Settings


@dataclass(frozen=True, slots=True)
class KeyState:
    """A master key, and why this process cannot have it, if so."""

    use: KeyUse
    is_accessible: bool
    fault: str | None


@dataclass(frozen=True, slots=True)
class Status:
    """Where master keys stand. `unsealed` secrets are still in the clear."""

    provider: str
    file: str
    master_keys: list[KeyState]
    unsealed: int


async def look(connection: SessionConnection, settings: Settings) -> Status:
    """Return every master key with what it wraps, and try whether it can be had."""
    rows = {each.master_key_id: each for each in await store.list_master_keys(connection)}
    states = []
    for use in await store.key_uses(connection):
        fault = await _fault(rows[use.master_key_id], settings)
        states.append(KeyState(use, is_accessible=fault is None, fault=fault))
    file = str(settings.local_master_keys)
    return Status(settings.master_key_provider, file, states, await count_unsealed(connection))


async def _fault(row: MasterKeyRow, settings: Settings) -> str | None:
    try:
        await build_providers(settings)[row.provider].load(row)
    except SecretsError as error:
        return str(error)
    return None
