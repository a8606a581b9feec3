"""`sellflow shopify check`: what is well, and what is to be mended."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest

from sellflow.postgres.database import Database, SessionConnection
from sellflow.postgres.transactions import of_session
from sellflow.secrets import Vault
from sellflow.shopify.tokens import AccessTokens
from sellflow.shopify.tokens.endpoint import TokenEndpoint
from sellflow.shops.check import Check, Finding, _clock, _skew
from sellflow.shops.models import App, Shop
from tests.conftest import Tenant
from tests.edge.serving import serving
from tests.shopify.simulated import SCOPES, SimulatedShopify
from tests.shopify.tokens.conftest import Installed

Levels = dict[str, str]


class Checked:
    """A connected shop, and the check of it."""

    def __init__(self, database: Database, installed: Installed, tokens: AccessTokens, app: App, shop: Shop) -> None:
        self.installed = installed
        self.app = app
        self._database = database
        self._tokens = tokens
        self._shop = shop

    async def shop(self, app: App | None = None) -> dict[str, Finding]:
        found = await Check(self._database.settings, self._tokens).shop(app or self.app, self._shop)
        return {each.about: each for each in found}

    async def address(self, url: str) -> Finding:
        settings = self._database.settings.model_copy(update={"public_url": url})
        (found,) = await Check(settings, self._tokens).app(self.app)
        return found


@pytest.fixture
async def checked(
    database: Database, owner: SessionConnection, shopify: SimulatedShopify, tenant: Tenant, vault: Vault
) -> AsyncIterator[Checked]:
    await shopify.move_in(owner, tenant)
    installed = Installed(owner, shopify, tenant, vault)
    await installed.put_pair()
    tokens = AccessTokens(transactions=of_session(owner), vault=vault, endpoint=TokenEndpoint())
    app = replace(tenant.app, shopify_url=shopify.pattern, scopes=("read_all_orders", *SCOPES))
    yield Checked(database, installed, tokens, app, tenant.shop)
    await tokens.close()


def levels(found: dict[str, Finding]) -> Levels:
    return {about: finding.level for about, finding in found.items()}


async def test_a_shop_that_is_connected_lacks_nothing_but_the_history_that_needs_approval(checked: Checked) -> None:
    found = await checked.shop()
    assert levels(found) == {
        "credentials": "ok",
        "token": "ok",
        "Admin API": "ok",
        "access scopes": "ok",
        "order history": "warn",
        "API version": "ok",
        "clock": "ok",
        "webhooks": "ok",
    }
    assert "60 days" in found["order history"].said
    assert "API access" in found["order history"].mend
    assert "not listed there" in found["webhooks"].said


async def test_the_check_changes_no_token(checked: Checked) -> None:
    before = await checked.installed.row()
    await checked.shop()
    assert await checked.installed.row() == before


async def test_history_that_is_granted_is_well(checked: Checked) -> None:
    await checked.installed.shopify.install(checked.installed.tenant, "read_all_orders", *SCOPES)
    assert (await checked.shop())["order history"].level == "ok"


async def test_scopes_that_are_missing_are_named(checked: Checked) -> None:
    greedy = replace(checked.app, scopes=(*SCOPES, "write_inventory", "read_discounts"))
    found = (await checked.shop(greedy))["access scopes"]
    assert (found.level, found.said) == ("fail", "not granted: write_inventory")
    assert "app-config" in found.mend


async def test_a_wrong_secret_is_found_before_it_is_needed(checked: Checked) -> None:
    found = await checked.shop(replace(checked.app, client_secret="not-the-one-of-the-dashboard-at-all"))
    assert levels(found)["credentials"] == "fail"
    assert "apps rotate" in found["credentials"].mend
    assert levels(found)["Admin API"] == "ok", "the token there is goes on working"


async def test_a_token_that_was_revoked_is_renewed_or_told(checked: Checked) -> None:
    await checked.installed.shopify.age(checked.installed.tenant, access_seconds=7200)
    assert levels(await checked.shop())["Admin API"] == "ok"
    await checked.installed.shopify.age(checked.installed.tenant, access_seconds=7200, refresh_seconds=91 * 86_400)
    found = await checked.shop()
    assert levels(found) == {"credentials": "ok", "token": "ok", "Admin API": "fail"}
    assert "open the app" in found["Admin API"].mend
    assert levels(await checked.shop())["token"] == "fail"


async def test_a_shop_without_a_token_is_told_how_to_get_one(checked: Checked, owner: SessionConnection) -> None:
    await owner.execute("DELETE FROM access_tokens")
    found = await checked.shop()
    assert levels(found) == {"credentials": "ok", "token": "fail"}
    assert "sellflow shopify connect" in found["token"].mend


async def test_a_shop_that_cannot_be_reached_is_told_as_such(checked: Checked, owner: SessionConnection) -> None:
    nowhere = "http://127.0.0.1:9/shops/{shop}"
    await owner.execute("UPDATE apps SET shopify_url = $1", nowhere)
    found = await checked.shop(replace(checked.app, shopify_url=nowhere))
    assert levels(found) == {"credentials": "fail", "token": "ok", "Admin API": "fail"}
    assert "cannot be reached: ConnectError" in found["Admin API"].said


async def test_the_public_address_is_tried(checked: Checked, database: Database) -> None:
    assert (await checked.address("")).level == "fail"
    assert "SELLFLOW_PUBLIC_URL" in (await checked.address("")).mend
    unreachable = await checked.address("http://127.0.0.1:9")
    assert (unreachable.level, "ConnectError" in unreachable.said) == ("fail", True)
    async with serving(database) as web:
        url = str(web.base_url).rstrip("/")
        assert (await checked.address(url)).level == "ok"
        assert "answers 404" in (await checked.address(f"{url}/elsewhere")).said
        checked.app = replace(checked.app, shopify_url=None)
        assert "not https" in (await checked.address(url)).said


@pytest.mark.parametrize(
    ("seconds", "level"), [(0.0, "ok"), (9.0, "ok"), (-30.0, "warn"), (30.0, "warn"), (-91.0, "fail"), (3600.0, "fail")]
)
def test_a_clock_that_goes_wrong_is_told(seconds: float, level: str) -> None:
    assert _clock(seconds).level == level


def test_an_answer_without_a_time_tells_no_skew() -> None:
    assert _skew(httpx.Response(200, headers={"date": "yesterday"})) is None
    assert _clock(_skew(httpx.Response(200))).level == "warn"
    past = httpx.Response(200, headers={"date": "Wed, 25 Nov 2020 00:00:00 GMT"})
    assert (_skew(past) or 0) > 10**6
