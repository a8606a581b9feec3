"""Master keys encrypted by AWS KMS and kept in Postgres; boto3 finds credentials and region by itself.

KMS is asked once for each master key and process, not for each shop: a call for every data key would wait inside the
transactions that use them, and a restart with ten thousand shops would make as many.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from functools import cache
from secrets import token_hex
from typing import Any

from sellflow.secrets.errors import KeyServiceUnavailableError, MasterKeyMissingError
from sellflow.secrets.providers import MasterKeyRow

SETTING = "SELLFLOW_MASTER_KEY_KMS_ID"
TIMEOUT = 5.0  # seconds for an answer of KMS

#: What KMS says when asking again later may help (docs.aws.amazon.com/kms/latest/APIReference/CommonErrors.html).
_TRANSIENT = {
    "DependencyTimeoutException",
    "InternalFailure",
    "KMSInternalException",
    "KeyUnavailableException",
    "RequestLimitExceeded",
    "ServiceUnavailable",
    "Throttling",
    "ThrottlingException",
}


class KmsKeys:
    """The provider `aws-kms`."""

    name = "aws-kms"

    def __init__(self, key_id: str) -> None:
        self._key_id = key_id

    async def make(self, known: Collection[str]) -> MasterKeyRow:
        """Have KMS make a key, which is kept as KMS encrypted it."""
        if not self._key_id:
            raise MasterKeyMissingError(f"{SETTING} is empty: set it to the id, ARN or alias of a symmetric KMS key")
        master_key_id = token_hex(8)
        made = await _ask(
            self._key_id,
            lambda client: client.generate_data_key(
                KeyId=self._key_id, KeySpec="AES_256", EncryptionContext=_context(master_key_id)
            ),
        )
        return MasterKeyRow(
            self.name, master_key_id, wrapped=bytes(made["CiphertextBlob"]), service_key_id=str(made["KeyId"])
        )

    async def load(self, row: MasterKeyRow) -> bytes:
        """Have KMS decrypt a key."""
        service_key_id = row.service_key_id or ""
        answer = await _ask(
            service_key_id,
            lambda client: client.decrypt(
                CiphertextBlob=row.wrapped, KeyId=service_key_id, EncryptionContext=_context(row.master_key_id)
            ),
            needed_by=row,
        )
        return bytes(answer["Plaintext"])

    async def drop(self, row: MasterKeyRow) -> None:
        """Nothing is kept here: the key goes with its row."""

    def is_wanted(self, row: MasterKeyRow) -> bool:
        """Say whether a key was made under the KMS key that is set; where that is an alias, any may be behind it."""
        named = self._key_id.rsplit("/", 1)[-1]
        is_alias = self._key_id.startswith("alias/") or ":alias/" in self._key_id
        return row.provider == self.name and (is_alias or (row.service_key_id or "").endswith(named))


def _context(master_key_id: str) -> dict[str, str]:
    """Return what KMS authenticates beside the key, writes into its audit trail, and lets policies ask for."""
    return {"application": "sellflow", "master_key_id": master_key_id}


async def _ask(key_id: str, call: Callable[[Any], Any], *, needed_by: MasterKeyRow | None = None) -> Any:  # noqa: ANN401
    """Call KMS in a thread, as boto3 blocks."""
    return await asyncio.to_thread(_call, key_id, call, needed_by)


def _call(key_id: str, call: Callable[[Any], Any], needed_by: MasterKeyRow | None) -> Any:  # noqa: ANN401 - boto3's
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - boto3 is large, and few need it

    purpose = f"to open the master key {needed_by.master_key_id}" if needed_by else "to make a master key"
    try:
        return call(_client(_region(key_id)))
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 400)
        if status >= 500 or error.response["Error"]["Code"] in _TRANSIENT:
            raise KeyServiceUnavailableError(f"KMS did not use {key_id} {purpose}: {error}") from error
        raise MasterKeyMissingError(
            f"KMS refused to use {key_id} {purpose}: {error}. Check {SETTING} and that this process's role may use "
            "the key (kms:GenerateDataKey, kms:Decrypt). Nothing was changed"
        ) from error
    except BotoCoreError as error:
        raise KeyServiceUnavailableError(f"KMS cannot be asked {purpose}: {error}") from error


def _region(key_id: str) -> str | None:
    """Return the region of an ARN; a bare id or alias is looked for in boto3's own."""
    return key_id.split(":")[3] if key_id.startswith("arn:") and key_id.count(":") >= 5 else None


@cache
def _client(region: str | None) -> Any:  # noqa: ANN401 - boto3 makes its clients at run time
    """Return a client, safe to share between threads."""
    import boto3  # noqa: PLC0415
    from botocore.config import Config  # noqa: PLC0415

    config = Config(connect_timeout=TIMEOUT, read_timeout=TIMEOUT, retries={"total_max_attempts": 2})
    return boto3.session.Session().client("kms", region_name=region, config=config)
