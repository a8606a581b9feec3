"""Secrets at rest: envelope encryption and the keys that wrap it.

Three levels. A value is sealed under the data key of its shop (or of the installation), a data key is wrapped by a
master key, and master keys are held by a key provider: a local file, or AWS KMS.
"""

from sellflow.secrets.store import forget_shop
from sellflow.secrets.vault import Vault, build_vault

__all__ = ["Vault", "build_vault", "forget_shop"]
