"""The simulated store that the demo shop is: made known to the simulator before anything is sold."""

from __future__ import annotations

from pydantic import HttpUrl

from sellflow.demo_shop import DEMO_APP, DEMO_CLIENT_ID, DEMO_CURRENCY, DEMO_DOMAIN
from sellflow.settings import Settings
from sellflow.simulator import client
from sellflow.simulator.oauth.schemas import AppInput
from sellflow.simulator.schemas import ShopInput


async def register_demo_store(settings: Settings) -> None:
    """Make the simulator know the demo shop, and send its webhooks to the web role."""
    shop = ShopInput(
        currency=DEMO_CURRENCY,
        webhook_url=HttpUrl(f"{settings.web_url}/webhooks/shopify/{DEMO_APP}"),
        client_secret=settings.demo_app_secret.get_secret_value(),
        seed=1,
    )
    await client.register_shop(settings.simulator_url, DEMO_DOMAIN, shop)
    app = AppInput(
        client_secret=settings.demo_app_secret.get_secret_value(),
        title="Sellflow demo",
        app_url=f"{settings.web_url}/admin/{DEMO_APP}",
        redirect_urls=(f"{settings.public_url or settings.web_url}/auth/shopify/{DEMO_APP}/callback",),
        scopes=tuple(settings.shopify_scopes.split(",")),
    )
    await client.install_app(settings.simulator_url, DEMO_DOMAIN, DEMO_CLIENT_ID, app)
