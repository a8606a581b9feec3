"""Who holds master keys. Postgres knows which there are and which is current, never a key itself."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Protocol

from sellflow.settings import Settings


@dataclass(frozen=True, slots=True)
class MasterKeyRow:
    """A master key as the table `master_keys` has it.

    `wrapped` is the key as its service encrypted it, and `service_key_id` the service's own key; None for a local one.
    """

    provider: str
    master_key_id: str
    is_current: bool = False
    wrapped: bytes | None = field(default=None, repr=False)
    service_key_id: str | None = None

    def __str__(self) -> str:
        return f"{self.master_key_id} ({self.provider})"


class KeyProvider(Protocol):
    """Makes master keys and gives them out."""

    name: str

    async def make(self, known: Collection[str]) -> MasterKeyRow:
        """Return a master key, kept safe by now, whose id is not among `known`; an unused one may be taken."""

    async def load(self, row: MasterKeyRow) -> bytes:
        """Return the 32 bytes of a master key.

        Raises
        ------
        MasterKeyMissingError
            If this process has no access to it, naming the key and the setting to look at.
        KeyServiceUnavailableError
            If the service cannot be asked just now.
        """

    async def drop(self, row: MasterKeyRow) -> None:
        """Forget a master key for good; dropping twice is no error."""

    def is_wanted(self, row: MasterKeyRow) -> bool:
        """Say whether a master key of this provider is one that the settings ask for."""


def build_providers(settings: Settings) -> dict[str, KeyProvider]:
    """Return every provider by name: data keys may be wrapped by another one's key than the one that is set."""
    from sellflow.secrets.key_file import LocalKeys  # noqa: PLC0415 - it takes the types from here
    from sellflow.secrets.kms import KmsKeys  # noqa: PLC0415

    return {each.name: each for each in (LocalKeys(settings.local_master_keys), KmsKeys(settings.master_key_kms_id))}
