"""The RSA keys that sign id tokens, their publication (RFC 7517) and their rotation."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from jwt.algorithms import RSAAlgorithm


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key and its name."""

    kid: str
    private: RSAPrivateKey

    def published(self) -> dict[str, Any]:
        """Return the public half as a JSON Web Key."""
        key: dict[str, Any] = json.loads(RSAAlgorithm.to_jwk(self.private.public_key()))
        return {**key, "kid": self.kid, "use": "sig", "alg": "RS256"}


class Keys:
    """A shop's keys, the newest last; the first is made when it is needed."""

    def __init__(self) -> None:
        self._keys: list[SigningKey] = []

    def published(self) -> dict[str, Any]:
        """Return the key set."""
        self._newest()
        return {"keys": [key.published() for key in self._keys]}

    def rotate(self, *, keep_old: bool) -> str:
        """Make the key that signs from now on, and return its name; `keep_old` leaves those before published."""
        if not keep_old:
            self._keys.clear()
        self._keys.append(_made())
        return self._keys[-1].kid

    def sign(self, claims: Mapping[str, Any]) -> str:
        """Return a token by the newest key."""
        key = self._newest()
        return jwt.encode(dict(claims), key.private, "RS256", headers={"kid": key.kid})

    def _newest(self) -> SigningKey:
        if not self._keys:
            self._keys.append(_made())
        return self._keys[-1]


def _made() -> SigningKey:
    return SigningKey(secrets.token_hex(8), generate_private_key(65537, 2048))
