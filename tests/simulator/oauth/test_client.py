"""What a command needs to install an app in the simulator, over a socket."""

from __future__ import annotations

import httpx
import pytest

from sellflow.errors import NotFoundError
from sellflow.simulator.client import register_shop
from sellflow.simulator.oauth.client import install_app, register_app, session_token
from sellflow.simulator.oauth.schemas import AppInput
from sellflow.simulator.schemas import ShopInput
from tests.simulator.conftest import DOMAIN
from tests.simulator.merchant import CLIENT_ID, SCOPES, SECRET, Merchant


async def test_an_app_is_registered_and_installed_and_its_merchant_gets_a_token(base_url: str) -> None:
    shop = ShopInput.model_validate({"webhook_url": "http://127.0.0.1:1/", "client_secret": "hush", "products": 1})
    await register_shop(base_url, DOMAIN, shop)
    await register_app(base_url, CLIENT_ID, AppInput(client_secret=SECRET, scopes=tuple(SCOPES)))
    await install_app(base_url, DOMAIN, CLIENT_ID)
    token = await session_token(base_url, DOMAIN, CLIENT_ID)

    async with httpx.AsyncClient(base_url=base_url, trust_env=False) as api:
        assert await Merchant(api).exchange(token)


async def test_an_app_that_nobody_registered_is_not_installed(base_url: str) -> None:
    with pytest.raises(NotFoundError):
        await install_app(base_url, DOMAIN, CLIENT_ID)
