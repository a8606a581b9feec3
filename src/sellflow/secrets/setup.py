"""Makes the installation's first keys as part of `sellflow migrate`, and makes sure that a process has them."""

from __future__ import annotations

from sellflow.postgres.database import Database, Login, SessionConnection
from sellflow.secrets import store
from sellflow.secrets.errors import NoMasterKeyError
from sellflow.secrets.providers import build_providers
from sellflow.secrets.vault import Vault
from sellflow.settings import Settings


async def ensure_keys(connection: SessionConnection, vault: Vault, settings: Settings) -> None:
    """Make the first master key and the installation's data key where there are none, as the owner; safe to run again.

    A master key is made only while the database knows none: nothing can be sealed under one by then.

    Raises
    ------
    MasterKeyMissingError
        If there is a master key, and this process has no access to it.
    """
    if await store.current_master_key(connection) is None:
        made = await build_providers(settings)[settings.master_key_provider].make(known=())
        await store.add_first_master_key(connection, made)
    await vault.ensure_data_key(connection, None)


async def check_keys(database: Database, login: Login, vault: Vault) -> None:
    """Make sure that a process has the current master key before it serves.

    Raises
    ------
    NoMasterKeyError
        If there is none.
    MasterKeyMissingError
        If this process has no access to it.
    """
    connection = await database.connect(login, purpose="check")
    try:
        row = await store.current_master_key(connection)
    finally:
        await connection.close()
    if row is None:
        raise NoMasterKeyError("the database has no master key yet: run `sellflow migrate`, which makes one")
    await vault.master_key(row)
