"""The guide to the simulator: its exchange with Shopify's library is taken from the page and run."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import httpx
import pytest

from sellflow.simulator.app import create_app
from tests.simulator.conftest import DOMAIN, serving
from tests.simulator.merchant import Merchant

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "simulator.md"
EXAMPLE = re.compile(r"^```python exchange\.py\n(.*?)^```$", re.MULTILINE | re.DOTALL)
APP = {"client_secret": "the-secret-of-an-app-in-development", "scopes": "read_orders"}


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    (code,) = EXAMPLE.findall(GUIDE.read_text(encoding="utf-8"))
    (tmp_path / "guide_exchange.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("guide_exchange")
    sys.modules.pop("guide_exchange", None)


async def test_the_example_gets_a_token_that_the_admin_api_takes(
    example: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(create_app()) as url, httpx.AsyncClient(base_url=url, trust_env=False) as api:
        monkeypatch.setattr(example, "SIMULATOR", url)
        merchant = Merchant(api)
        await merchant.do("PUT", f"/shops/{DOMAIN}", {"webhook_url": "http://127.0.0.1:1/", "client_secret": "hush"})
        await merchant.do("PUT", "/apps/my-app", APP)
        await merchant.do("POST", f"/shops/{DOMAIN}/install", {"client_id": "my-app"})
        token = await merchant.do("POST", f"/shops/{DOMAIN}/session-token", {"client_id": "my-app"})

        assert await merchant.is_accepted(await example.exchange(token["session_token"]))
