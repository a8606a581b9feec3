"""Session tokens: who of which shop looks at the app's page inside Shopify's admin.

Shopify signs them with the app's secret, for a minute
(https://shopify.dev/docs/apps/build/authentication-authorization/session-tokens). `shopifyapp` checks signature, age
and audience. It takes a token whose issuer is another shop than its destination, and one that lacks claims; what it
lets through is checked here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import jwt
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from sellflow.errors import SellflowError
from sellflow.shopify.domains import HostileDomainError, read_shop_domain

LONGEST_TOKEN = 4096
_TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)

_Text = Annotated[str, StringConstraints(min_length=1, max_length=255)]


class InvalidSessionTokenError(SellflowError):
    """A session token is not one that Shopify made for this app and a single shop."""

    code = "shopify.invalid_session_token"


class StaleSessionTokenError(InvalidSessionTokenError):
    """A session token has run out; the page asks App Bridge for another and tries again."""

    code = "shopify.stale_session_token"


@dataclass(frozen=True, slots=True)
class SessionToken:
    """What a verified session token says."""

    client_id: str
    shop_domain: str
    user_id: int
    session_id: str
    #: The token itself, to exchange for an access token.
    token: str = field(repr=False)


class _Claims(BaseModel):
    """The claims that Shopify documents; none may be missing."""

    model_config = ConfigDict(extra="ignore", strict=True, hide_input_in_errors=True)

    iss: _Text
    dest: _Text
    aud: _Text
    sub: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,18}$")]
    exp: int | float
    nbf: int | float
    iat: int | float
    jti: _Text
    sid: str = Field(default="", max_length=255)


def client_id_of(token: str) -> str:
    """Return which app a token says it is for, before anything of it is verified: it chooses the secret.

    Raises
    ------
    InvalidSessionTokenError
        If it is no token at all.
    """
    try:
        claims = jwt.decode(_readable(token), options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise InvalidSessionTokenError("the session token is not a JSON web token") from None
    audience = claims.get("aud")
    if not isinstance(audience, str) or not audience:
        raise InvalidSessionTokenError("the session token names no app as its audience")
    return audience


def verify_session_token(token: str, *, client_id: str, secrets: Sequence[str]) -> SessionToken:
    """Return what a session token says, if one of `secrets` (the current one first) signed it for this app.

    Raises
    ------
    StaleSessionTokenError
        If it ran out.
    InvalidSessionTokenError
        If it is malformed, forged, for another app, or of two shops at once.
    """
    claims = _claims(_verified(_readable(token), client_id, secrets))
    domain = _one_shop(claims)
    return SessionToken(claims.aud, domain, int(claims.sub), claims.sid, token)


def _readable(token: str) -> str:
    if len(token) > LONGEST_TOKEN or not _TOKEN.fullmatch(token):
        raise InvalidSessionTokenError("the session token is not a JSON web token")
    return token


def _verified(token: str, client_id: str, secrets: Sequence[str]) -> object:
    """Return the claims that Shopify's own library lets through."""
    from shopify_app.verify.app_home_req import verify_app_home_req  # noqa: PLC0415 - web alone needs it

    current, previous = (*secrets, None)[:2]
    try:
        verdict = verify_app_home_req(
            {
                "method": "GET",
                "url": "https://app.invalid/",
                "headers": {"authorization": f"Bearer {token}"},
                "body": "",
            },
            {"client_id": client_id, "client_secret": current or "", "old_client_secret": previous},
            "/unused",
        )
    except (TypeError, ValueError, AttributeError, RecursionError):  # a claim of a type that it does not expect
        raise InvalidSessionTokenError("the session token's claims are malformed") from None
    if verdict.ok and verdict.id_token:
        return verdict.id_token.claims
    if verdict.log.code == "expired_id_token":
        raise StaleSessionTokenError("the session token has run out")
    raise InvalidSessionTokenError(f"the session token was refused: {verdict.log.code}")


def _claims(found: object) -> _Claims:
    try:
        return _Claims.model_validate(found)
    except ValidationError as error:
        names = sorted({str(detail["loc"][0]) for detail in error.errors(include_input=False) if detail["loc"]})
        raise InvalidSessionTokenError(
            f"the session token's claims are missing or malformed: {', '.join(names)}"
        ) from None


def _one_shop(claims: _Claims) -> str:
    """Return the shop's domain, where issuer and destination agree on it."""
    try:
        domain = read_shop_domain(claims.dest.removeprefix("https://"))
    except HostileDomainError as error:
        raise InvalidSessionTokenError(f"the session token is for no shop: {error}") from None
    if claims.dest != f"https://{domain}" or claims.iss != f"https://{domain}/admin":
        raise InvalidSessionTokenError("the session token's issuer and destination are not one shop")
    return domain
