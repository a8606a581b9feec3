"""Service keys: shown once, found by their public part, and dead the moment they are revoked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from sellflow.edge.service_keys import add_key, find_key, list_keys, revoke_key, rotate_key
from sellflow.errors import ConfigurationError, NotFoundError
from sellflow.postgres.database import Database, Pool, SessionConnection
from tests.conftest import Tenant
from tests.edge.callers import merchant, service
from tests.edge.serving import serving

LETTERS = "/v1/dead-letters"


@pytest.fixture
async def client(database: Database, tenant: Tenant) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(database) as found:
        yield found


def bearer(text: str) -> dict[str, str]:
    return {"authorization": f"Bearer {text}"}


async def test_a_key_is_found_with_its_scopes_and_shop(
    owner: SessionConnection, admin_pool: Pool, tenant: Tenant
) -> None:
    new = await add_key(owner, name="crm", scopes=["loyalty:read", "loyalty:read"], shop_id=tenant.shop_id)
    found = await find_key(admin_pool, new.text)
    assert found is not None
    assert (found.key_id, found.shop_id) == (new.key.key_id, tenant.shop_id)
    assert set(found.scopes) == {"loyalty:read"}


async def test_nothing_stored_or_shown_gives_a_key_away(owner: SessionConnection, admin_pool: Pool) -> None:
    new = await add_key(owner, name="crm", scopes=["queues:read"], shop_id=None)
    secret = new.text.split("_", 2)[2]
    row = await owner.fetchrow("SELECT k::text AS everything FROM service_keys k")
    assert row is not None
    for shown in (
        row["everything"],
        repr(new),
        repr(await list_keys(owner)),
        repr(await find_key(admin_pool, new.text)),
    ):
        assert secret not in shown


async def test_what_is_not_the_key_is_not_found(owner: SessionConnection, admin_pool: Pool) -> None:
    new = await add_key(owner, name="crm", scopes=["queues:read"], shop_id=None)
    other = await add_key(owner, name="other", scopes=["queues:read"], shop_id=None)
    _, key_id, secret = new.text.split("_", 2)
    for text in (
        "",
        secret,
        key_id,
        f"sfk_{key_id}_",
        f"sfk_{key_id}_{secret[:-1]}",
        f"sfk_{key_id}_{secret}x",
        f"sfk_{key_id.upper()}_{secret}",
        f"sfk_{other.key.key_id}_{secret}",
        f"sfk_{'a' * 12}_{secret}",
        f"sfk_{key_id}_{'A' * 43}",
        f"sfk_' OR true --_{secret}",
        new.text + "\0",
        new.text + "\n",
    ):
        assert await find_key(admin_pool, text) is None, text


async def test_a_key_ends_with_its_time(owner: SessionConnection, admin_pool: Pool) -> None:
    new = await add_key(owner, name="crm", scopes=["queues:read"], shop_id=None, valid_for=timedelta(hours=1))
    assert await find_key(admin_pool, new.text) is not None
    await owner.execute("UPDATE service_keys SET expires_at = clock_timestamp()")
    assert await find_key(admin_pool, new.text) is None
    (listed,) = await list_keys(owner)
    assert listed.state(datetime.now(UTC)) == "expired"


async def test_a_rotated_key_and_its_successor_overlap(
    owner: SessionConnection, admin_pool: Pool, tenant: Tenant
) -> None:
    old = await add_key(owner, name="crm", scopes=["queues:read", "loyalty:read"], shop_id=tenant.shop_id)
    new = await rotate_key(owner, old.key.key_id, overlap=timedelta(hours=1))
    assert (new.key.replaces, new.key.scopes, new.key.shop_id) == (old.key.key_id, old.key.scopes, tenant.shop_id)
    assert await find_key(admin_pool, old.text) is not None
    assert await find_key(admin_pool, new.text) is not None
    await rotate_key(owner, new.key.key_id, overlap=timedelta(0))
    assert await find_key(admin_pool, new.text) is None
    with pytest.raises(NotFoundError):
        await rotate_key(owner, new.key.key_id, overlap=timedelta(0))


async def test_a_rotation_never_lengthens_the_life_of_the_old_key(owner: SessionConnection) -> None:
    old = await add_key(owner, name="crm", scopes=["queues:read"], shop_id=None, valid_for=timedelta(minutes=5))
    await rotate_key(owner, old.key.key_id, overlap=timedelta(hours=24))
    found = {each.key_id: each for each in await list_keys(owner)}
    assert found[old.key.key_id].expires_at == old.key.expires_at


@pytest.mark.parametrize("scopes", [[], ["everything"], ["queues:read", "queues:write"], ["*"]])
async def test_a_scope_that_does_not_exist_is_refused(owner: SessionConnection, scopes: list[str]) -> None:
    with pytest.raises(ConfigurationError, match="deadletters:read"):
        await add_key(owner, name="crm", scopes=scopes, shop_id=None)


async def test_a_revoked_key_is_refused_by_the_very_next_request(
    client: httpx.AsyncClient, database: Database, owner: SessionConnection
) -> None:
    new = await add_key(owner, name="crm", scopes=["deadletters:read"], shop_id=None)
    async with serving(database) as another:
        for each in (client, another):
            assert (await each.get(LETTERS, headers=bearer(new.text))).status_code == 200
        await revoke_key(owner, new.key.key_id)
        for each in (client, another):
            answer = await each.get(LETTERS, headers=bearer(new.text))
            assert (answer.status_code, answer.json()["code"]) == (401, "auth.invalid_key")
    with pytest.raises(NotFoundError):
        await revoke_key(owner, "nobody")


async def test_a_key_does_what_its_scopes_say_and_no_more(
    client: httpx.AsyncClient, owner: SessionConnection, tenant: Tenant
) -> None:
    reader = await service(owner, "deadletters:read")
    assert (await client.get(LETTERS, headers=reader)).status_code == 200
    for method, path in (("POST", f"{LETTERS}/replay"), ("GET", "/v1/endpoints"), ("GET", "/v1/queues")):
        answer = await client.request(method, path, headers=reader, json={"all": True} if method == "POST" else None)
        assert (answer.status_code, answer.json()["code"]) == (403, "auth.missing_scope")
    for headers, code in (({}, "auth.missing_key"), (merchant(tenant), "auth.invalid_key")):
        answer = await client.get(LETTERS, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, code)


async def test_use_is_noted_once_a_minute(owner: SessionConnection, admin_pool: Pool) -> None:
    new = await add_key(owner, name="crm", scopes=["queues:read"], shop_id=None)

    async def used_at() -> datetime | None:
        (listed,) = await list_keys(owner)
        return listed.last_used_at

    assert await used_at() is None
    await find_key(admin_pool, new.text)
    first = await used_at()
    assert first is not None
    await find_key(admin_pool, new.text)
    assert await used_at() == first
    await owner.execute("UPDATE service_keys SET last_used_at = last_used_at - interval '61 seconds'")
    await find_key(admin_pool, new.text)
    again = await used_at()
    assert again is not None
    assert again > first
