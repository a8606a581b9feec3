"""The formats of sealed values and wrapped data keys. AES-256-GCM with random nonces (NIST SP 800-38D).

A sealed value is a version byte, the 16 bytes of its data key's id, 12 of the nonce, ciphertext and tag. What it was
sealed for is no part of it: shop and purpose are authenticated beside it, so that it opens for those alone.
A wrapped data key is a version byte, 12 bytes of nonce, ciphertext and tag.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sellflow.secrets.errors import CannotOpenError

KEY_BYTES = 32
_VERSION = b"\x01"
_NONCE_BYTES = 12
_TAG_BYTES = 16
_ID_END = 1 + 16
_HEADER_BYTES = _ID_END + _NONCE_BYTES


@dataclass(frozen=True, slots=True)
class Binding:
    """What a sealed value belongs to; `shop_id` is None for the installation's own."""

    shop_id: int | None
    purpose: str

    def encoded(self) -> bytes:
        """Return bytes that no other binding has."""
        return _encoded_shop(self.shop_id) + self.purpose.encode()

    def __str__(self) -> str:
        return f"{self.purpose} of {'the installation' if self.shop_id is None else f'shop {self.shop_id}'}"


def seal(plain: str, *, data_key_id: UUID, data_key: bytes, binding: Binding) -> bytes:
    """Return a value sealed under a data key, for one shop and purpose."""
    header = _VERSION + data_key_id.bytes
    nonce = os.urandom(_NONCE_BYTES)
    return header + nonce + AESGCM(data_key).encrypt(nonce, plain.encode(), header + binding.encoded())


def data_key_of(sealed: bytes, binding: Binding) -> UUID:
    """Return the id of the data key that a value was sealed under.

    Raises
    ------
    CannotOpenError
        If it is no sealed value, or one of a newer version.
    """
    if len(sealed) < _HEADER_BYTES + _TAG_BYTES or sealed[:1] != _VERSION:
        raise CannotOpenError(f"the {binding} is no sealed value of a version known here")
    return UUID(bytes=bytes(sealed[1:_ID_END]))


def open_sealed(sealed: bytes, *, data_key: bytes, binding: Binding) -> str:
    """Return what was sealed.

    Raises
    ------
    CannotOpenError
        If it was changed, or was sealed for another shop or purpose.
    """
    header, nonce, text = sealed[:_ID_END], sealed[_ID_END:_HEADER_BYTES], sealed[_HEADER_BYTES:]
    try:
        return AESGCM(data_key).decrypt(nonce, text, header + binding.encoded()).decode()
    except InvalidTag:
        raise CannotOpenError(
            f"the {binding} does not open: it was changed, or was sealed for something else. Set it anew"
        ) from None


def new_data_key() -> bytes:
    """Return a new data key."""
    return AESGCM.generate_key(KEY_BYTES * 8)


def wrap(data_key: bytes, *, master_key: bytes, data_key_id: UUID, shop_id: int | None) -> bytes:
    """Return a data key wrapped by a master key, for one id and shop."""
    nonce = os.urandom(_NONCE_BYTES)
    return _VERSION + nonce + AESGCM(master_key).encrypt(nonce, data_key, _wrap_binding(data_key_id, shop_id))


def unwrap(wrapped: bytes, *, master_key: bytes, data_key_id: UUID, shop_id: int | None) -> bytes:
    """Return a data key.

    Raises
    ------
    CannotOpenError
        If it was changed, or wrapped by another master key or for another id or shop.
    """
    nonce, text = wrapped[1 : 1 + _NONCE_BYTES], wrapped[1 + _NONCE_BYTES :]
    changed = CannotOpenError(
        f"the data key {data_key_id} does not open: its row in data_keys was changed. Bring that back from a backup"
    )
    if wrapped[:1] != _VERSION or len(text) != KEY_BYTES + _TAG_BYTES:
        raise changed
    try:
        return AESGCM(master_key).decrypt(nonce, text, _wrap_binding(data_key_id, shop_id))
    except InvalidTag:
        raise changed from None


def _wrap_binding(data_key_id: UUID, shop_id: int | None) -> bytes:
    return b"sellflow data key" + data_key_id.bytes + _encoded_shop(shop_id)


def _encoded_shop(shop_id: int | None) -> bytes:
    return b"\x00" if shop_id is None else b"\x01" + shop_id.to_bytes(8, "big", signed=True)
