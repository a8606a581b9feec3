"""Shops by their own host name: `demo-shop.myshopify.com/admin/…` is `/shops/demo-shop.myshopify.com/admin/…`."""

from __future__ import annotations

import re

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

SHOP_HOST = re.compile(r"([a-z0-9][a-z0-9-]*\.myshopify\.com)(:\d+)?")
#: What Shopify itself serves under a shop's name; the routes that control the simulator are not among them.
SHOP_PATHS = ("/admin/", "/apps/", "/a/", "/community/", "/tools/", "/.well-known/", "/authentication/", "/customer/")


class ShopHosts:
    """Serves a shop under its own name, so that clients which build addresses from it need no change.

    They only have to connect here, by a proxy, a hosts file or a transport of theirs.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Put the shop of the `Host` header in front of the path."""
        if scope["type"] == "http" and f"{scope['path']}/".startswith(SHOP_PATHS):
            host = SHOP_HOST.fullmatch(Headers(scope=scope).get("host", "").lower())
            if host:
                scope = {**scope, "path": f"/shops/{host[1]}{scope['path']}"}
        await self._app(scope, receive, send)
