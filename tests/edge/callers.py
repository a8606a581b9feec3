"""Who calls in tests: merchants with session tokens, services with keys."""

from __future__ import annotations

import time
import warnings
from typing import Any

import jwt

from sellflow.edge.service_keys import add_key
from sellflow.postgres.database import SessionConnection
from tests.conftest import Tenant

USER = 42


def session_claims(tenant: Tenant, **changes: object) -> dict[str, Any]:
    """The claims of a token as Shopify makes them; None leaves one out."""
    now = int(time.time())
    usual = {
        "iss": f"https://{tenant.shop.domain}/admin",
        "dest": f"https://{tenant.shop.domain}",
        "aud": tenant.app.client_id,
        "sub": str(USER),
        "exp": now + 60,
        "nbf": now,
        "iat": now,
        "jti": "f8912129-1af6-4cad-9ca3-76b0f7621087",
        "sid": "aaea182f2732d44c23057c0fea584021a4485b2bd25d3eb7fd349313ad24c685",
    }
    return {name: value for name, value in (usual | changes).items() if value is not None}


def session_token(tenant: Tenant, *, secret: str | None = None, algorithm: str = "HS256", **changes: object) -> str:
    """A session token of a tenant's app and shop."""
    key = tenant.app.client_secret if secret is None else secret
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", jwt.InsecureKeyLengthWarning)  # tests' secrets are short
        return jwt.encode(session_claims(tenant, **changes), key, algorithm=algorithm)


def merchant(tenant: Tenant, **changes: object) -> dict[str, str]:
    """The header of a merchant of the shop."""
    return {"authorization": f"Bearer {session_token(tenant, **changes)}"}  # type: ignore[arg-type]


async def service(owner: SessionConnection, *scopes: str, shop_id: int | None = None) -> dict[str, str]:
    """The header of a service whose key has these scopes; of the whole installation, unless a shop is given."""
    new = await add_key(owner, name="test", scopes=scopes, shop_id=shop_id)
    return {"authorization": f"Bearer {new.text}"}
