"""A token is there whenever it is asked for, and Shopify is asked for the next by one process at a time."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager

import pytest

from sellflow.postgres.database import Connection, Database, Login, Pool, SessionConnection, close_pool
from sellflow.postgres.transactions import Transactions, of_owner, of_web, of_worker
from sellflow.secrets import Vault
from sellflow.shopify.tokens import (
    AccessTokens,
    Grant,
    NotInstalledError,
    ReinstallNeededError,
    TokenDelayedError,
    TokenKind,
    leases,
)
from sellflow.shopify.tokens.endpoint import TokenEndpoint
from sellflow.shopify.tokens.sealing import put_grant
from tests.cli.commands import until
from tests.conftest import SECRET, Tenant
from tests.shopify.simulated import SCOPES
from tests.shopify.tokens.conftest import Installed

HOUR = 3600.0


async def test_a_fresh_token_is_given_out_as_it_is(installed: Installed, tokens: AccessTokens) -> None:
    access = await tokens.get(installed.shop_id)
    assert (access.shop_id, access.domain) == (installed.shop_id, "acme.myshopify.com")
    assert access.base_url == f"{installed.shopify.url}/shops/acme.myshopify.com"
    assert access.scopes == set(SCOPES)
    assert await installed.works(access)
    assert (await installed.refreshes())["received"] == 0


async def test_a_token_never_shows_in_a_repr(installed: Installed, tokens: AccessTokens) -> None:
    access = await tokens.get(installed.shop_id)
    assert access.token.startswith("shpat_")
    assert access.token not in repr(access)


@pytest.mark.parametrize("login", [Login.WEB, Login.WORKER, Login.OWNER])
async def test_every_login_gets_and_renews_tokens(
    installed: Installed, database: Database, vault: Vault, login: Login
) -> None:
    pool = await database.pool(login, purpose="test tokens", size=2)
    opening = {Login.WEB: of_web, Login.WORKER: of_worker, Login.OWNER: of_owner}[login]
    tokens = AccessTokens(transactions=opening(pool), vault=vault, endpoint=TokenEndpoint())
    before = await tokens.get(installed.shop_id)
    await installed.let_pass(HOUR - 60)
    after = await tokens.get(installed.shop_id)
    assert after.token != before.token
    assert await installed.works(after)
    await tokens.close()
    await close_pool(pool)


async def test_a_token_is_renewed_ahead_of_its_end_and_kept_with_what_renewed_it(
    installed: Installed, tokens: AccessTokens
) -> None:
    first = await installed.row()
    await installed.let_pass(HOUR - 120)
    assert await installed.works(await tokens.get(installed.shop_id))
    second = await installed.row()
    assert second["refresh_token"] != first["refresh_token"]
    assert second["previous_refresh_token"] is not None
    assert (await installed.refreshes())["granted"] == 1
    again = await tokens.get(installed.shop_id)
    assert await installed.works(again)
    assert (await installed.refreshes())["granted"] == 1


async def test_many_callers_of_one_process_renew_once(installed: Installed, tokens: AccessTokens) -> None:
    await installed.let_pass(HOUR + 1)
    found = await asyncio.gather(*(tokens.get(installed.shop_id) for _ in range(20)))
    assert len({access.token for access in found}) == 1
    assert (await installed.refreshes())["received"] == 1


async def test_while_somebody_renews_others_go_on_with_what_is_left_of_the_token(
    installed: Installed, tokens: AccessTokens
) -> None:
    before = await tokens.get(installed.shop_id)
    await installed.let_pass(HOUR - 120)
    assert await leases.take(installed.owner, installed.tenant.app.app_id, installed.tenant.shop.domain)
    assert await tokens.get(installed.shop_id) == before
    assert (await installed.refreshes())["received"] == 0


async def test_a_token_that_was_renewed_between_our_look_and_our_lease_is_not_renewed_again(
    installed: Installed, tokens: AccessTokens, database: Database
) -> None:
    await installed.let_pass(HOUR + 1)
    watcher = await database.connect(Login.OWNER, purpose="test watcher")
    async with installed.owner.transaction():
        lease = await leases.take(installed.owner, installed.tenant.app.app_id, installed.tenant.shop.domain)
        assert lease is not None
        late = asyncio.create_task(tokens.get(installed.shop_id))
        await until(lambda: watcher.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"))
        await installed.owner.execute("UPDATE access_tokens SET expires_at = now() + interval '1 hour'")
        await leases.release(installed.owner, lease)
    await late
    await watcher.close()
    assert (await installed.refreshes())["received"] == 0


async def test_a_refresher_that_died_is_replaced_when_its_lease_ends(
    installed: Installed, tokens: AccessTokens
) -> None:
    await installed.let_pass(HOUR + 1)
    assert await leases.take(installed.owner, installed.tenant.app.app_id, installed.tenant.shop.domain)
    waiting = asyncio.create_task(tokens.get(installed.shop_id))
    done, _ = await asyncio.wait([waiting], timeout=0.3)
    assert not done, "it waits for whoever holds the lease"
    await installed.let_leases_run_out()
    assert await installed.works(await waiting)
    assert (await installed.refreshes())["granted"] == 1


async def test_patience_ends(installed: Installed, worker_pool: Pool, vault: Vault) -> None:
    hasty = AccessTokens(transactions=of_worker(worker_pool), vault=vault, endpoint=TokenEndpoint(), patience=0.1)
    await installed.let_pass(HOUR + 1)
    assert await leases.take(installed.owner, installed.tenant.app.app_id, installed.tenant.shop.domain)
    with pytest.raises(TokenDelayedError, match="another process"):
        await hasty.get(installed.shop_id)
    await hasty.close()


class Lossy:
    """Transactions that lose the database once, at the transaction with this number: when a pair is to be stored."""

    def __init__(self, inner: Transactions, *, at: int) -> None:
        self._inner = inner
        self._at = at
        self._seen = 0

    def __call__(self, shop_id: int) -> AbstractAsyncContextManager[Connection]:
        self._seen += 1
        if self._seen == self._at:
            raise ConnectionResetError("killed by a test")
        return self._inner(shop_id)


async def test_a_pair_that_was_lost_on_its_way_into_the_database_is_asked_for_again(
    installed: Installed, worker_pool: Pool, vault: Vault
) -> None:
    transactions = Lossy(of_worker(worker_pool), at=3)  # the look, the lease, and then the pair
    tokens = AccessTokens(transactions=transactions, vault=vault, endpoint=TokenEndpoint())
    await installed.let_pass(HOUR + 1)
    with pytest.raises(ConnectionResetError):
        await tokens.get(installed.shop_id)
    assert (await installed.refreshes())["granted"] == 1, "Shopify has answered"
    await installed.let_leases_run_out()
    assert await installed.works(await tokens.get(installed.shop_id))
    assert await installed.refreshes() == {"received": 2, "granted": 2, "refused": 0, "failed": 0}
    await installed.let_pass(HOUR + 1)
    assert await installed.works(await tokens.get(installed.shop_id)), "the chain goes on"
    await tokens.close()


@pytest.mark.parametrize("fault", ["error_before", "error_after", "drop_before", "drop_after"])
async def test_an_answer_that_never_came_is_asked_for_again_with_the_same_token(
    installed: Installed, tokens: AccessTokens, fault: str
) -> None:
    await installed.let_pass(HOUR + 1)
    await installed.shopify.plan(installed.tenant, fault, times=2)
    assert await installed.works(await tokens.get(installed.shop_id))
    assert await installed.refreshes() == {"received": 3, "granted": 1, "refused": 0, "failed": 2}


async def test_while_shopify_is_away_an_ending_token_is_used_and_one_that_ended_is_told(
    installed: Installed, tokens: AccessTokens
) -> None:
    before = await tokens.get(installed.shop_id)
    await installed.let_pass(HOUR - 120)
    await installed.shopify.plan(installed.tenant, "error_before", times=100)
    assert await tokens.get(installed.shop_id) == before
    asked = (await installed.refreshes())["received"]
    assert await tokens.get(installed.shop_id) == before
    assert (await installed.refreshes())["received"] == asked, "a failure is not repeated at once"
    await installed.let_pass(120)
    with pytest.raises(TokenDelayedError, match="Shopify answered 503") as caught:
        await tokens.get(installed.shop_id)
    assert 0 < caught.value.seconds <= 2
    await installed.shopify.do("DELETE", f"/shops/{installed.tenant.shop.domain}/oauth/faults")
    await installed.let_retry()
    assert await installed.works(await tokens.get(installed.shop_id))


async def test_a_slow_answer_is_not_waited_for_without_end(
    installed: Installed, worker_pool: Pool, vault: Vault
) -> None:
    endpoint = TokenEndpoint(timeout=0.1, longest=0.5)
    tokens = AccessTokens(transactions=of_worker(worker_pool), vault=vault, endpoint=endpoint)
    await installed.let_pass(HOUR + 1)
    await installed.shopify.plan(installed.tenant, "latency", times=3, seconds=0.8)
    with pytest.raises(TokenDelayedError):
        await tokens.get(installed.shop_id)
    await tokens.close()


async def test_a_refused_token_is_replaced(installed: Installed, tokens: AccessTokens) -> None:
    refused = await tokens.get(installed.shop_id)
    renewed = await tokens.renew(installed.shop_id, refused.token)
    assert renewed.token != refused.token
    assert await installed.works(renewed)
    assert not await installed.works(refused)


async def test_a_token_that_was_replaced_already_is_not_renewed_again(
    installed: Installed, tokens: AccessTokens
) -> None:
    refused = await tokens.get(installed.shop_id)
    renewed = await tokens.renew(installed.shop_id, refused.token)
    assert await tokens.renew(installed.shop_id, refused.token) == renewed
    assert (await installed.refreshes())["received"] == 1


async def test_a_refused_token_is_waited_for_and_never_given_out_again_while_another_renews_it(
    installed: Installed, tokens: AccessTokens
) -> None:
    refused = await tokens.get(installed.shop_id)
    assert await leases.take(installed.owner, installed.tenant.app.app_id, installed.tenant.shop.domain)
    waiting = asyncio.create_task(tokens.renew(installed.shop_id, refused.token))
    done, _ = await asyncio.wait([waiting], timeout=0.2)
    assert not done
    await installed.let_leases_run_out()
    assert (await waiting).token != refused.token


async def test_a_caller_that_gives_up_leaves_no_lease_behind(installed: Installed, tokens: AccessTokens) -> None:
    await installed.let_pass(HOUR + 1)
    await installed.shopify.plan(installed.tenant, "latency", seconds=0.3)
    impatient = asyncio.create_task(tokens.get(installed.shop_id))
    while not (await installed.refreshes())["received"]:  # noqa: ASYNC110 - it happens in the simulator
        await asyncio.sleep(0.01)
    impatient.cancel()
    assert await installed.works(await tokens.get(installed.shop_id))
    assert (await installed.refreshes())["received"] == 1
    assert await installed.owner.fetchval("SELECT count(*) FROM token_leases") == 0


async def test_what_somebody_else_got_after_us_is_not_overwritten(installed: Installed, tokens: AccessTokens) -> None:
    await installed.let_pass(HOUR + 1)
    await installed.shopify.plan(installed.tenant, "latency", seconds=0.3)
    slow = asyncio.create_task(tokens.get(installed.shop_id))
    while not (await installed.refreshes())["received"]:  # noqa: ASYNC110 - it happens in the simulator
        await asyncio.sleep(0.01)
    await installed.let_leases_run_out()
    assert await leases.take(installed.owner, installed.tenant.app.app_id, installed.tenant.shop.domain)
    newest = await installed.put_pair()
    assert (await slow).token == newest


async def test_the_token_before_is_tried_when_the_last_one_is_refused(
    installed: Installed, tokens: AccessTokens, vault: Vault
) -> None:
    await installed.let_pass(HOUR + 1)
    await tokens.get(installed.shop_id)
    lost = await vault.seal(
        installed.owner, "shprt_never_given", shop_id=installed.shop_id, purpose="shopify.refresh_token"
    )
    await installed.owner.execute("UPDATE access_tokens SET refresh_token = $1", lost)
    await installed.let_pass(HOUR + 1)
    assert await installed.works(await tokens.get(installed.shop_id))
    assert await installed.refreshes() == {"received": 3, "granted": 2, "refused": 1, "failed": 0}


async def test_a_shop_whose_tokens_are_all_refused_needs_a_new_grant_and_is_asked_for_nothing_more(
    installed: Installed, tokens: AccessTokens
) -> None:
    await installed.let_pass(HOUR + 1, refresh=91 * 86_400)
    with pytest.raises(ReinstallNeededError, match=r"acme\.myshopify\.com: .*invalid_grant.*open the app"):
        await tokens.get(installed.shop_id)
    for _ in range(3):
        with pytest.raises(ReinstallNeededError):
            await tokens.get(installed.shop_id)
    assert (await installed.refreshes())["received"] == 1
    await installed.put_pair()
    assert await installed.works(await tokens.get(installed.shop_id))


async def test_a_wrong_secret_costs_no_shop_its_tokens(
    installed: Installed, tokens: AccessTokens, owner: SessionConnection
) -> None:
    await installed.let_pass(HOUR + 1)
    await installed.shopify.do("PUT", f"/apps/{installed.tenant.app.client_id}", {"client_secret": "rotated"})
    with pytest.raises(TokenDelayedError, match=r"invalid_client.*client id or secret"):
        await tokens.get(installed.shop_id)
    await installed.shopify.do(
        "PUT", f"/apps/{installed.tenant.app.client_id}", {"client_secret": SECRET, "scopes": SCOPES}
    )
    await installed.let_retry()
    assert await installed.works(await tokens.get(installed.shop_id))
    assert await owner.fetchval("SELECT failures FROM access_tokens") == 0


async def put_permanent(installed: Installed, vault: Vault, token: str) -> None:
    grant = Grant(kind=TokenKind.PERMANENT, access_token=token, scopes=SCOPES)
    await put_grant(installed.owner, vault, installed.shop_id, grant)


async def test_a_token_without_expiry_is_used_as_it_is_and_is_broken_once_refused(
    installed: Installed, tokens: AccessTokens, vault: Vault
) -> None:
    await put_permanent(installed, vault, "shpat_custom")
    assert (await tokens.get(installed.shop_id)).token == "shpat_custom"
    with pytest.raises(ReinstallNeededError, match="invalid_subject_token"):
        await tokens.renew(installed.shop_id, "shpat_custom")


async def test_a_token_without_expiry_is_migrated_to_one_that_expires(
    installed: Installed, tokens: AccessTokens, vault: Vault
) -> None:
    permanent = await installed.shopify.permanent_token(installed.tenant)
    await put_permanent(installed, vault, permanent)
    migrated = await tokens.migrate(installed.shop_id)
    assert migrated.token != permanent
    assert await installed.works(migrated)
    assert not await installed.shopify.accepts(installed.tenant, permanent)
    assert (await installed.row())["kind"] == "expiring"
    assert await tokens.migrate(installed.shop_id) == migrated, "there is nothing left to migrate"


async def test_a_migration_whose_answer_was_lost_is_asked_for_again(
    installed: Installed, worker_pool: Pool, vault: Vault
) -> None:
    permanent = await installed.shopify.permanent_token(installed.tenant)
    await put_permanent(installed, vault, permanent)
    transactions = Lossy(of_worker(worker_pool), at=2)
    tokens = AccessTokens(transactions=transactions, vault=vault, endpoint=TokenEndpoint())
    with pytest.raises(ConnectionResetError):
        await tokens.migrate(installed.shop_id)
    assert not await installed.shopify.accepts(installed.tenant, permanent)
    await installed.let_leases_run_out()
    assert await installed.works(await tokens.renew(installed.shop_id, permanent))
    await tokens.close()


async def test_a_token_that_shopify_will_not_migrate_stays(
    installed: Installed, tokens: AccessTokens, vault: Vault
) -> None:
    await put_permanent(installed, vault, "shpat_of_a_custom_app")
    assert (await tokens.migrate(installed.shop_id)).token == "shpat_of_a_custom_app"
    row = await installed.row()
    assert (row["kind"], row["broken_at"]) == ("permanent", None)
    assert "invalid_subject_token" in str(row["last_error"])


async def test_a_token_of_the_apps_own_credentials_is_claimed_again(
    installed: Installed, tokens: AccessTokens, vault: Vault, endpoint: TokenEndpoint
) -> None:
    await put_grant(installed.owner, vault, installed.shop_id, await endpoint.claim(await installed.client()))
    first = await tokens.get(installed.shop_id)
    await installed.let_pass(86_400 + 1)
    second = await tokens.get(installed.shop_id)
    assert second.token != first.token
    assert await installed.works(second)
    assert (await installed.row())["refresh_token"] is None


async def test_without_a_token_and_without_the_app_there_is_nothing_to_call_with(
    tokens: AccessTokens, tenant: Tenant, other_tenant: Tenant, owner: SessionConnection, installed: Installed
) -> None:
    with pytest.raises(NotInstalledError, match=r"other\.myshopify\.com has removed the app, or not finished"):
        await tokens.get(other_tenant.shop_id)
    await owner.execute("UPDATE shops SET uninstalled_at = now() WHERE shop_id = $1", tenant.shop_id)
    for call in (tokens.get(tenant.shop_id), tokens.renew(tenant.shop_id, "any")):
        with pytest.raises(NotInstalledError):
            await call
    with pytest.raises(NotInstalledError, match="shop 4711"):
        await tokens.get(4711)


async def test_a_shop_that_removes_the_app_while_its_token_is_renewed_gets_none(
    installed: Installed, tokens: AccessTokens
) -> None:
    await installed.let_pass(HOUR + 1)
    await installed.shopify.plan(installed.tenant, "latency", seconds=0.3)
    renewing = asyncio.create_task(tokens.get(installed.shop_id))
    while not (await installed.refreshes())["received"]:  # noqa: ASYNC110 - it happens in the simulator
        await asyncio.sleep(0.01)
    await installed.owner.execute("UPDATE shops SET uninstalled_at = now()")
    await installed.owner.execute("DELETE FROM access_tokens")
    with pytest.raises(NotInstalledError):
        await renewing
    assert await installed.owner.fetchval("SELECT count(*) FROM access_tokens") == 0


async def test_no_connection_is_held_while_shopify_is_asked(
    installed: Installed, database: Database, vault: Vault
) -> None:
    pool = await database.pool(Login.WORKER, purpose="test one connection", size=1)
    tokens = AccessTokens(transactions=of_worker(pool), vault=vault, endpoint=TokenEndpoint())
    await installed.let_pass(HOUR + 1)
    await installed.shopify.plan(installed.tenant, "latency", seconds=0.5)
    renewing = asyncio.create_task(tokens.get(installed.shop_id))
    while not (await installed.refreshes())["received"]:  # noqa: ASYNC110 - it happens in the simulator
        await asyncio.sleep(0.01)
    async with asyncio.timeout(0.3):
        assert await pool.fetchval("SELECT 1") == 1
    assert not renewing.done()
    busy = await installed.owner.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state ~ 'in transaction'"
    )
    assert busy == 0
    assert await installed.works(await renewing)
    await tokens.close()
    await close_pool(pool)


async def test_nobody_gets_the_token_of_another_shop(
    installed: Installed, worker_pool: Pool, web_pool: Pool, other_tenant: Tenant
) -> None:
    for transactions in (of_worker(worker_pool), of_web(web_pool)):
        async with transactions(other_tenant.shop_id) as connection:
            assert await connection.fetch("SELECT * FROM access_tokens") == []
            assert await connection.fetch("SELECT * FROM app_of_shop($1)", installed.shop_id) == []
            assert len(await connection.fetch("SELECT * FROM app_of_shop($1)", other_tenant.shop_id)) == 1
