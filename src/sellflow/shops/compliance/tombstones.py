"""Who was erased, remembered as a keyed hash: whoever has the database alone cannot tell whom, nor try all ids."""

from __future__ import annotations

import hmac
import secrets

from sellflow.postgres.database import Connection
from sellflow.secrets import Vault

PURPOSE = "compliance/hash-key"


async def hash_key(connection: Connection, vault: Vault) -> bytes:
    """Return the key of the hashes; the first who needs it makes it."""
    sealed = await _read(connection)
    if sealed is None:
        fresh = await vault.seal(connection, secrets.token_hex(32), shop_id=None, purpose=PURPOSE)
        await connection.execute(
            "INSERT INTO compliance_progress (hash_key) VALUES ($1) ON CONFLICT (only_row) DO NOTHING", fresh
        )
        sealed = await _read(connection)
        assert sealed is not None
    return bytes.fromhex(await vault.open(connection, sealed, shop_id=None, purpose=PURPOSE))


async def _read(connection: Connection) -> bytes | None:
    sealed: bytes | None = await connection.fetchval("SELECT hash_key FROM compliance_progress")
    return sealed


def tombstone(key: bytes, shop_id: int, about: str) -> bytes:
    """Return the hash of what an event is about, such as customer:207119551, in a shop."""
    return hmac.digest(key, f"{shop_id}:{about}".encode(), "sha256")
