"""Master keys in a local file, which its user alone may read."""

from __future__ import annotations

import binascii
import hashlib
import hmac
import os
from base64 import b64decode, b64encode
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

from sellflow.secrets.envelope import KEY_BYTES, new_data_key
from sellflow.secrets.errors import KeyFileError, MasterKeyMissingError
from sellflow.secrets.providers import MasterKeyRow

SETTING = "SELLFLOW_MASTER_KEY_FILE"
_HEADING = """\
# Sellflow's master keys, one a line: its id, and the key. Nobody but Sellflow's own user may read this file.
# Without it no secret in the database can ever be opened again: keep a copy, apart from backups of the database.
"""


def fingerprint(key: bytes) -> str:
    """Return the id of a key: made from it, so that a line that was damaged is noticed."""
    return hmac.digest(key, b"sellflow master key", hashlib.sha256)[:8].hex()


class LocalKeys:
    """The provider `local`."""

    name = "local"

    def __init__(self, file: Path) -> None:
        self._file = file

    async def make(self, known: Collection[str]) -> MasterKeyRow:
        """Return a key that is in the file and not yet in use, or add one; the file is made where there is none.

        A key not in use is one that an interrupted rotation left, or one that an operator spread beforehand.
        """
        keys = self._read() if self._file.exists() else self._create()
        unused = [key_id for key_id in keys if key_id not in known]
        return MasterKeyRow(self.name, unused[0] if unused else self._add(keys))

    async def load(self, row: MasterKeyRow) -> bytes:
        """Return a key of the file."""
        try:
            keys = self._read()
        except FileNotFoundError:
            raise MasterKeyMissingError(
                f"secrets are sealed under the master key {row.master_key_id}, and there is no file {self._file}: "
                f"put the file that has this key there, or name it in {SETTING}. Nothing was changed"
            ) from None
        if row.master_key_id not in keys:
            raise MasterKeyMissingError(
                f"secrets are sealed under the master key {row.master_key_id}, which {self._file} does not have (it "
                f"has {', '.join(keys)}): bring the right file back, or name it in {SETTING}. Nothing was changed"
            )
        return keys[row.master_key_id]

    async def drop(self, row: MasterKeyRow) -> None:
        """Take a key out of the file, and out of what a killed process left beside it."""
        for left_over in self._file.parent.glob(f"{self._file.name}.{'[0-9a-f]' * 8}"):
            left_over.unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            keys = self._read()
            if keys.pop(row.master_key_id, None) is not None:
                self._replace(keys)

    def is_wanted(self, row: MasterKeyRow) -> bool:
        """Every key of the file will do."""
        return row.provider == self.name

    def _read(self) -> dict[str, bytes]:
        """Return the keys by id, in the order of the file.

        Raises
        ------
        FileNotFoundError
            If there is none.
        KeyFileError
            If others may read it, or it is not what was once written.
        """
        try:
            with self._file.open("rb") as opened:
                mode = os.fstat(opened.fileno()).st_mode & 0o777
                content = opened.read(1_000_000)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise KeyFileError(f"the key file {self._file} cannot be read ({error.strerror}): see {SETTING}") from error
        if mode & 0o077:
            raise KeyFileError(
                f"the key file {self._file} may be read or written by others (its mode is {mode:04o}): "
                f"chmod 600 {self._file}, and rotate its keys if they did"
            )
        return self._parse(content)

    def _parse(self, content: bytes) -> dict[str, bytes]:
        keys: dict[str, bytes] = {}
        for number, line in enumerate(content.decode("ascii", "replace").splitlines(), 1):
            if not line.strip() or line.startswith("#"):
                continue
            key_id, _, encoded = line.strip().partition(" ")
            try:
                key = b64decode(encoded, validate=True)
            except (binascii.Error, ValueError):
                key = b""
            if len(key) != KEY_BYTES or fingerprint(key) != key_id:
                raise KeyFileError(
                    f"line {number} of the key file {self._file} is damaged: a line is the id of a key and the key. "
                    "Bring the file back from its copy; do not remove it, as what its keys sealed needs them"
                )
            keys[key_id] = key
        if not keys:
            raise KeyFileError(f"the key file {self._file} holds no key: bring it back from its copy")
        return keys

    def _create(self) -> dict[str, bytes]:
        """Make the file with a first key; of several processes at once, one makes it and all read that one."""
        key = new_data_key()
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            written = self._write_beside({fingerprint(key): key})
            try:
                with suppress(FileExistsError):
                    os.link(written, self._file)
            finally:
                written.unlink()
            self._sync_folder()
        except OSError as error:
            raise self._not_written(error) from error
        return self._read()

    def _add(self, keys: dict[str, bytes]) -> str:
        key = new_data_key()
        self._replace({**keys, fingerprint(key): key})
        return fingerprint(key)

    def _replace(self, keys: dict[str, bytes]) -> None:
        """Put other keys into the file at one stroke: whoever reads it meanwhile has the old ones or the new."""
        try:
            self._write_beside(keys).replace(self._file)
            self._sync_folder()
        except OSError as error:
            raise self._not_written(error) from error

    def _write_beside(self, keys: dict[str, bytes]) -> Path:
        beside = self._file.with_name(f"{self._file.name}.{token_hex(4)}")
        text = _HEADING + "".join(f"{key_id} {b64encode(key).decode()}\n" for key_id, key in keys.items())
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as opened:
            opened.write(text)
            opened.flush()
            os.fsync(opened.fileno())
        return beside

    def _sync_folder(self) -> None:
        folder = os.open(self._file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _not_written(self, error: OSError) -> KeyFileError:
        return KeyFileError(f"the key file {self._file} cannot be written ({error.strerror}): see {SETTING}")
