"""Whether an Admin API request may pass: the one question that the rest of the simulator asks here."""

from __future__ import annotations

from sellflow.errors import SellflowError
from sellflow.simulator.oauth.models import AccessToken
from sellflow.simulator.oauth.service import OAuth

#: What Shopify answers with 401 to a request without a valid token.
INVALID_TOKEN = "[API] Invalid API key or access token (unrecognized login or wrong password)"


class AccessDeniedError(SellflowError):
    """The Admin API does not take a token: 401, with the message under `errors`."""

    code = "simulator.access_denied"


def check_access(oauth: OAuth, domain: str, token: str | None) -> AccessToken:
    """Return the token that a request to a shop's Admin API carries.

    Raises
    ------
    AccessDeniedError
        If there is none, or it is unknown, another shop's, expired or revoked.
    """
    access = oauth.tokens.find(token or "")
    if access is None or access.domain != domain or not oauth.tokens.is_valid(access):
        raise AccessDeniedError(INVALID_TOKEN)
    return access
