"""Calling the control routes for apps from a command: register one, install it, and look at a shop as its merchant."""

from __future__ import annotations

import json
from typing import Any

from sellflow.simulator.client import call, connected
from sellflow.simulator.oauth.schemas import AppInput, InstallInput, SessionTokenInput


async def register_app(base_url: str, client_id: str, app: AppInput) -> None:
    """Make an app, or change it; raises as `register_shop` does."""
    async with connected(base_url) as client:
        await call(client, "PUT", f"/apps/{client_id}", app)


async def install_app(base_url: str, domain: str, client_id: str) -> None:
    """Install an app in a shop with all the scopes that it asks for; raises as `register_shop` does."""
    async with connected(base_url) as client:
        await call(client, "POST", f"/shops/{domain}/install", InstallInput(client_id=client_id))


async def session_token(base_url: str, domain: str, client_id: str) -> str:
    """Return a session token of the shop's owner; raises as `register_shop` does."""
    async with connected(base_url) as client:
        answer = await call(client, "POST", f"/shops/{domain}/session-token", SessionTokenInput(client_id=client_id))
    found: dict[str, Any] = json.loads(answer)
    return str(found["session_token"])
