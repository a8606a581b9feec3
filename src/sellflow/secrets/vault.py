"""Seals and opens secrets. Unwrapped keys stay in this process's memory."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID, uuid4

from sellflow.postgres.database import Connection, Pool
from sellflow.secrets import envelope, store
from sellflow.secrets.envelope import Binding
from sellflow.secrets.errors import CannotOpenError, DataKeyMissingError, NoMasterKeyError
from sellflow.secrets.providers import KeyProvider, MasterKeyRow, build_providers
from sellflow.secrets.store import DataKeyRow
from sellflow.settings import Settings

MAX_AGE = 60.0  # a data key that was erased opens nothing after this many seconds, in any process
MOST_KEYS = 10_000  # data keys kept in memory; the one used longest ago makes way
ATTEMPTS = 5  # a data key is made anew when the master key changed meanwhile


@dataclass(slots=True)
class _Held:
    """A data key in memory, and when it was last seen in the database."""

    shop_id: int | None
    key: bytes = field(repr=False)
    seen_at: float


class Vault:
    """Seals values for a shop (None: for the installation) and a purpose, and opens them for the same alone.

    The purpose says what the value is and whose, such as "endpoint/7/secret": a value that is moved to another row
    does not open there. The connection sees the shop, as it does inside its transaction; installations' keys are seen
    by web, worker and owner anyway.
    """

    def __init__(self, providers: Mapping[str, KeyProvider]) -> None:
        self._providers = providers
        self._held: OrderedDict[UUID, _Held] = OrderedDict()
        self._masters: dict[tuple[str, str], bytes] = {}
        self._loading = asyncio.Lock()

    async def seal(self, connection: Connection | Pool, plain: str, *, shop_id: int | None, purpose: str) -> bytes:
        """Return `plain` sealed. A shop's first value has a data key made, in the transaction of the connection.

        Raises
        ------
        NoMasterKeyError
            If the installation has no master key yet.
        MasterKeyMissingError
            If this process has no access to the shop's key.
        """
        row = await store.data_key_of(connection, shop_id) or await self._make_data_key(connection, shop_id)
        key = await self._unwrapped(connection, row)
        return envelope.seal(plain, data_key_id=row.data_key_id, data_key=key, binding=Binding(shop_id, purpose))

    async def open(
        self, connection: Connection | Pool, sealed: bytes | None, *, shop_id: int | None, purpose: str
    ) -> str:
        """Return what was sealed. None is a value that still waits to be sealed.

        Raises
        ------
        CannotOpenError
            If the value was changed, or sealed for another shop or purpose.
        DataKeyMissingError
            If its data key was erased, or is not one that the connection sees.
        MasterKeyMissingError
            If this process has no access to the shop's key.
        """
        binding = Binding(shop_id, purpose)
        if sealed is None:
            raise CannotOpenError(f"the {binding} is not sealed yet: run `sellflow migrate`, which does it")
        data_key_id = envelope.data_key_of(sealed, binding)
        held = self._held.get(data_key_id)
        if held is None or time.monotonic() - held.seen_at > MAX_AGE:
            row = await store.find_data_key(connection, data_key_id)
            if row is None:
                self._held.pop(data_key_id, None)
                raise DataKeyMissingError(
                    f"the {binding} needs the data key {data_key_id}, which is not there: it was erased with its "
                    "shop, or belongs to another"
                )
            await self._unwrapped(connection, row)
            held = self._held[data_key_id]
        self._held.move_to_end(data_key_id)
        if held.shop_id != shop_id:
            raise CannotOpenError(f"the {binding} was sealed for another shop")
        return envelope.open_sealed(sealed, data_key=held.key, binding=binding)

    async def ensure_data_key(self, connection: Connection, shop_id: int | None) -> None:
        """Make sure that a shop, or the installation, has a data key that opens here."""
        row = await store.data_key_of(connection, shop_id) or await self._make_data_key(connection, shop_id)
        await self._unwrapped(connection, row)

    async def master_key(self, row: MasterKeyRow) -> bytes:
        """Return a master key, from memory where it was used before.

        Raises
        ------
        MasterKeyMissingError
            If this process has no access to it.
        """
        name = row.provider, row.master_key_id
        if name not in self._masters:
            async with self._loading:  # many who need it at once ask its provider once
                if name not in self._masters:
                    self._masters[name] = await self._providers[row.provider].load(row)
        return self._masters[name]

    async def master_key_by_id(self, connection: Connection | Pool, provider: str, master_key_id: str) -> bytes:
        """Return a master key that a data key is wrapped by, from memory without a look into the database."""
        held = self._masters.get((provider, master_key_id))
        return held or await self.master_key(await store.find_master_key(connection, provider, master_key_id))

    async def _make_data_key(self, connection: Connection | Pool, shop_id: int | None) -> DataKeyRow:
        """Make the data key of a shop that has none; of several processes at once, one does, and all take that."""
        for _ in range(ATTEMPTS):
            master = await store.current_master_key(connection)
            if master is None:
                raise NoMasterKeyError("the database has no master key yet: run `sellflow migrate`, which makes one")
            made = await self._wrapped(envelope.new_data_key(), uuid4(), shop_id, master)
            if await store.add_data_key(connection, made):
                return made
            if row := await store.data_key_of(connection, shop_id):
                return row
        raise NoMasterKeyError(f"no data key could be made for shop {shop_id}: the master key keeps changing")

    async def _wrapped(
        self, data_key: bytes, data_key_id: UUID, shop_id: int | None, master: MasterKeyRow
    ) -> DataKeyRow:
        wrapped = envelope.wrap(
            data_key, master_key=await self.master_key(master), data_key_id=data_key_id, shop_id=shop_id
        )
        return DataKeyRow(data_key_id, shop_id, master.provider, master.master_key_id, wrapped)

    async def _unwrapped(self, connection: Connection | Pool, row: DataKeyRow) -> bytes:
        """Return a data key. What its id stands for never changes, so that one in memory need not be unwrapped."""
        held = self._held.get(row.data_key_id)
        if held is None:
            held = _Held(row.shop_id, await self._unwrap(connection, row), 0.0)
            self._held[row.data_key_id] = held
        held.seen_at = time.monotonic()
        while len(self._held) > MOST_KEYS:
            self._held.popitem(last=False)
        return held.key

    async def _unwrap(self, connection: Connection | Pool, row: DataKeyRow) -> bytes:
        master_key = await self.master_key_by_id(connection, row.provider, row.master_key_id)
        return envelope.unwrap(row.wrapped, master_key=master_key, data_key_id=row.data_key_id, shop_id=row.shop_id)


def build_vault(settings: Settings) -> Vault:
    """Return a vault with the providers that the settings describe; nothing is read before it is needed."""
    return Vault(build_providers(settings))
