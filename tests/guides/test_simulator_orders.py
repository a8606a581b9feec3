"""The guide to the simulator: its page of orders is read with Shopify's library, as the page says."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import httpx
import pytest

from sellflow.settings import Settings
from sellflow.simulator.app import create_app
from tests.simulator.conftest import DOMAIN, serving
from tests.simulator.merchant import Merchant

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "simulator.md"
EXAMPLES = re.compile(r"^```python (exchange|orders)\.py\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ModuleType]]:
    for name, code in EXAMPLES.findall(GUIDE.read_text(encoding="utf-8")):
        (tmp_path / f"{name}.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield {name: importlib.import_module(name) for name in ("exchange", "orders")}
    for name in ("exchange", "orders"):
        sys.modules.pop(name, None)


async def test_the_example_reads_the_orders_of_a_shop(
    examples: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    schemas = Settings().shopify_schema_dir
    async with serving(create_app(schema_dir=schemas)) as url, httpx.AsyncClient(base_url=url, trust_env=False) as api:
        monkeypatch.setattr(examples["exchange"], "SIMULATOR", url)
        merchant = Merchant(api)
        await merchant.do("PUT", f"/shops/{DOMAIN}", {"webhook_url": "http://127.0.0.1:1/", "client_secret": "hush"})
        order = await merchant.do("POST", f"/shops/{DOMAIN}/orders", {}, 201)
        token = (await merchant.do("POST", f"/shops/{DOMAIN}/access-token", {"scopes": ["read_orders"]}))[
            "access_token"
        ]
        read = examples["orders"].orders_since
        (found,) = await read(DOMAIN.partition(".")[0], token, "2026-01-01T00:00:00Z")

        assert (found["id"], found["name"]) == (order["admin_graphql_api_id"], order["name"])
        assert await read(DOMAIN.partition(".")[0], token, "2100-01-01T00:00:00Z") == []
