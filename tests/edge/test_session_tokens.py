"""Session tokens of many apps: which of them is meant, and by which of its secrets. tests/shopify has the rest."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from sellflow.edge.merchant_sessions import verify
from sellflow.postgres.database import Pool, SessionConnection
from sellflow.secrets import Vault
from sellflow.shopify.session_tokens import InvalidSessionTokenError, StaleSessionTokenError
from sellflow.shops import directory
from sellflow.shops.directory import AppDirectory
from sellflow.shops.store import rotate_secret
from tests.conftest import make_tenant
from tests.edge.callers import USER, session_token

pytestmark = pytest.mark.conformance


async def test_each_of_many_apps_signs_with_its_own_secret(
    owner: SessionConnection, web_pool: Pool, vault: Vault
) -> None:
    one, other = await make_tenant(owner, "acme"), await make_tenant(owner, "another")
    await rotate_secret(owner, vault, "another", "another secret, and a long one at that")
    apps = AppDirectory(web_pool, vault)
    for tenant, secret in ((one, None), (other, "another secret, and a long one at that"), (other, None)):
        app, said = await verify(session_token(tenant, secret=secret), apps)
        assert (app.app_id, said.shop_domain, said.user_id) == (tenant.app.app_id, tenant.shop.domain, USER)
    for hostile in (
        session_token(one, secret="another secret, and a long one at that"),
        session_token(one, aud="nobody"),
        session_token(replace(one, app=replace(one.app, client_id="client-another")), secret="not its"),
    ):
        with pytest.raises(InvalidSessionTokenError):
            await verify(hostile, apps)
    with pytest.raises(StaleSessionTokenError):
        await verify(session_token(one, exp=int(time.time()) - 60), apps)


async def test_a_rotated_secret_is_known_soon_and_the_one_before_stays_good(
    owner: SessionConnection, web_pool: Pool, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant, apps = await make_tenant(owner, "acme"), AppDirectory(web_pool, vault)
    await verify(session_token(tenant), apps)
    await rotate_secret(owner, vault, tenant.app.handle, "a new secret, and a long one at that")
    monkeypatch.setattr(directory, "MIN_AGE", 0.0)
    await verify(session_token(tenant, secret="a new secret, and a long one at that"), apps)
    await verify(session_token(tenant), apps)
