"""`sellflow shopify calls`: the changes that were asked of Shopify."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from sellflow.postgres.database import Database, Login
from sellflow.postgres.embedded import EmbeddedPostgres
from sellflow.shopify.admin.stored_store import NewCall, add_call
from tests.cli.commands import CommandLine, environment, logging_undone
from tests.conftest import FAST, make_tenant, settings_for


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[CommandLine]:
    with logging_undone():
        yield CommandLine(monkeypatch, capsys)


async def _store_calls(url: str, folder: Path) -> None:
    owner = await Database(url, url, settings_for(folder)).connect(Login.OWNER, purpose="test")
    tenant = await make_tenant(owner, "acme")
    for number in range(2):
        call = NewCall(tenant.shop_id, f"adjustment:{number}", "customer:42", "inventory_adjust", "", b"sealed", True)
        await add_call(owner, call)
    await owner.execute("UPDATE admin_calls SET state = 'unknown', finished_at = now() WHERE purpose = 'adjustment:0'")
    await owner.close()


def test_calls_are_listed_by_shop_and_state(line: CommandLine, folder: Path) -> None:
    env = environment(folder / "calls")
    with EmbeddedPostgres(folder / "calls", extra=FAST).running() as url:
        empty = line.run("shopify", "calls", env=env)
        assert (empty.code, empty.out.startswith("No change was asked")) == (0, True), empty.err
        asyncio.run(_store_calls(url, folder / "calls"))

        shown = line.run("shopify", "calls", env=env).out
        assert shown.index("adjustment:1") < shown.index("adjustment:0")
        assert "customer:42" not in shown

        unknown = line.run("shopify", "calls", "--state", "unknown", "--shop", "acme.myshopify.com", "--json", env=env)
        [told] = map(json.loads, unknown.out.splitlines())
        assert (told["purpose"], told["state"]) == ("adjustment:0", "unknown")

        wrong = line.run("shopify", "calls", "--state", "lost", env=env)
        assert (wrong.code, "there is no 'lost'" in wrong.err) == (2, True)

        done = line.run("jobs", "run", "prune_admin_calls", env=env)
        assert done.out.startswith("prune_admin_calls: 0 calls given up, 0 deleted"), done.err
