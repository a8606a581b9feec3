"""Session tokens: the JWT by which the admin tells an embedded app which merchant looks at it.

The claims are those of Shopify's page on session tokens: HS256 under the app's secret, a minute long.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import jwt
import orjson

from sellflow.simulator.oauth.models import Application, Staff

LIFE_SECONDS = 60
LEEWAY_SECONDS = 5

Claims = dict[str, Any]


def claims_of(domain: str, app: Application, staff: Staff, now: datetime) -> Claims:
    """Return what an honest token says."""
    issued = int(now.timestamp())
    return {
        "iss": f"https://{domain}/admin",
        "dest": f"https://{domain}",
        "aud": app.client_id,
        "sub": str(staff.id),
        "exp": issued + LIFE_SECONDS,
        "nbf": issued,
        "iat": issued,
        "jti": str(uuid.uuid4()),
        "sid": uuid.uuid5(uuid.NAMESPACE_URL, f"https://{domain}/staff/{staff.id}").hex,
    }


def signed(claims: Mapping[str, Any], secret: str) -> str:
    """Return the token; a claim that is None is left out, and none is checked: hostile tokens are made here, too."""
    said = {name: value for name, value in claims.items() if value is not None}
    return jwt.PyJWS().encode(orjson.dumps(said), secret, "HS256")


def read(token: str, domain: str, app: Application, now: datetime) -> Claims | None:
    """Return the claims of a token that holds for this shop and app, else None."""
    for secret in app.secrets:
        try:
            # The time is checked below: the library knows the machine's clock only.
            claims: Claims = jwt.decode(
                token,
                secret,
                ["HS256"],
                audience=app.client_id,
                options={"verify_exp": False, "verify_nbf": False, "verify_iat": False},
            )
        except jwt.InvalidTokenError:
            continue
        return claims if _holds(claims, domain, now.timestamp()) else None
    return None


def _holds(claims: Claims, domain: str, now: float) -> bool:
    places = claims.get("iss") == f"https://{domain}/admin" and claims.get("dest") == f"https://{domain}"
    begins, ends = claims.get("nbf"), claims.get("exp")
    if not places or not isinstance(begins, int) or not isinstance(ends, int):
        return False
    return begins - LEEWAY_SECONDS <= now < ends + LEEWAY_SECONDS
