"""Master keys under AWS KMS, against moto's server on a loopback socket."""

from __future__ import annotations

from typing import Any, TypeAlias

import boto3
import pytest

from sellflow.postgres.database import Database, Login, SessionConnection
from sellflow.secrets import build_vault
from sellflow.secrets.errors import KeyServiceUnavailableError, MasterKeyMissingError
from sellflow.secrets.kms import KmsKeys, _client
from sellflow.secrets.providers import MasterKeyRow
from sellflow.secrets.setup import check_keys, ensure_keys
from tests.conftest import Tenant
from tests.edge.serving import with_settings

Client: TypeAlias = Any  # boto3 makes its clients at run time

REGION = "eu-west-1"
TOKEN = "shpat_planted"


@pytest.fixture
def kms(aws: str, monkeypatch: pytest.MonkeyPatch) -> Client:
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    return boto3.session.Session().client("kms")


@pytest.fixture
def key_arn(kms: Client) -> str:
    return str(kms.create_key()["KeyMetadata"]["Arn"])


@pytest.fixture
async def under_kms(database: Database, owner: SessionConnection, key_arn: str) -> Database:
    """An installation whose first master key is made by KMS."""
    await owner.execute("DELETE FROM data_keys; DELETE FROM master_keys")
    changed = with_settings(database, master_key_provider="aws-kms", master_key_kms_id=key_arn)
    changed.settings.local_master_keys.unlink()
    await ensure_keys(owner, build_vault(changed.settings), changed.settings)
    return changed


async def test_secrets_are_sealed_and_opened_without_any_key_on_disk(
    under_kms: Database, owner: SessionConnection, tenant: Tenant, key_arn: str
) -> None:
    sealed = await build_vault(under_kms.settings).seal(owner, TOKEN, shop_id=tenant.shop_id, purpose="token")
    vault = build_vault(under_kms.settings)
    await check_keys(under_kms, Login.WORKER, vault)
    assert await vault.open(owner, sealed, shop_id=tenant.shop_id, purpose="token") == TOKEN
    assert not under_kms.settings.local_master_keys.exists()
    row = await owner.fetchrow("SELECT provider, service_key_id FROM master_keys")
    assert row is not None
    assert (row["provider"], row["service_key_id"]) == ("aws-kms", key_arn)


async def test_kms_is_asked_once_for_all_shops(
    under_kms: Database, owner: SessionConnection, tenant: Tenant, other_tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = build_vault(under_kms.settings)
    await check_keys(under_kms, Login.WEB, vault)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    _client.cache_clear()
    for shop_id in (tenant.shop_id, other_tenant.shop_id, None):
        sealed = await vault.seal(owner, TOKEN, shop_id=shop_id, purpose="token")
        assert await vault.open(owner, sealed, shop_id=shop_id, purpose="token") == TOKEN


async def test_an_alias_is_resolved_when_the_key_is_made(kms: Client, key_arn: str) -> None:
    kms.create_alias(AliasName="alias/sellflow", TargetKeyId=key_arn)
    keys = KmsKeys("alias/sellflow")
    made = await keys.make(known=())
    assert made.service_key_id == key_arn
    assert keys.is_wanted(made)
    assert KmsKeys(key_arn).is_wanted(made)
    assert KmsKeys(key_arn.rsplit("/", 1)[1]).is_wanted(made)
    assert not KmsKeys(str(kms.create_key()["KeyMetadata"]["Arn"])).is_wanted(made)
    assert len(await keys.load(made)) == 32


async def test_a_key_opens_under_its_own_id_alone(key_arn: str) -> None:
    made = await KmsKeys(key_arn).make(known=())
    moved = MasterKeyRow("aws-kms", "another", wrapped=made.wrapped, service_key_id=key_arn)
    with pytest.raises(MasterKeyMissingError, match=r"another.*SELLFLOW_MASTER_KEY_KMS_ID"):
        await KmsKeys(key_arn).load(moved)
    assert made.wrapped is not None
    damaged = MasterKeyRow("aws-kms", made.master_key_id, wrapped=made.wrapped[:-1] + b"!", service_key_id=key_arn)
    with pytest.raises(MasterKeyMissingError, match=made.master_key_id):
        await KmsKeys(key_arn).load(damaged)


async def test_a_key_that_is_refused_is_named_with_the_setting_and_nothing_is_lost(
    under_kms: Database, owner: SessionConnection, key_arn: str
) -> None:
    gone = key_arn[:-12] + "0" * 12
    await owner.execute("UPDATE master_keys SET service_key_id = $1", gone)
    before = await owner.fetch("SELECT master_key_id, wrapped FROM master_keys")
    vault = build_vault(under_kms.settings)
    named = rf"{gone} .*{before[0]['master_key_id']}.*SELLFLOW_MASTER_KEY_KMS_ID"
    with pytest.raises(MasterKeyMissingError, match=named):
        await ensure_keys(owner, vault, under_kms.settings)
    assert await owner.fetch("SELECT master_key_id, wrapped FROM master_keys") == before
    await owner.execute("UPDATE master_keys SET service_key_id = $1", key_arn)
    await ensure_keys(owner, vault, under_kms.settings)


async def test_kms_out_of_reach_is_told_apart_from_a_refusal(
    under_kms: Database, owner: SessionConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    _client.cache_clear()
    with pytest.raises(KeyServiceUnavailableError, match="cannot be asked"):
        await check_keys(under_kms, Login.WEB, build_vault(under_kms.settings))


async def test_without_a_kms_key_none_is_made() -> None:
    with pytest.raises(MasterKeyMissingError, match="SELLFLOW_MASTER_KEY_KMS_ID is empty"):
        await KmsKeys("").make(known=())
